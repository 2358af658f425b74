# Writes over a file that everyone may write.
# expect: exception
with open("@SENTINEL@/keep.txt", "w") as file:
    file.write("overwritten")
