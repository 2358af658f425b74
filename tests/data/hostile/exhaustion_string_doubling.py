# Doubles a string until something gives.
# expect: memory_limit
s = "x"
for _ in range(31):
    s += s
