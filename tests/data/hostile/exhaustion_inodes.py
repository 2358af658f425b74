# Makes more files than a folder should hold.
# expect: output_limit | exception | timeout_cpu
for number in range(60_000):
    open(f"f{number}", "w").close()
