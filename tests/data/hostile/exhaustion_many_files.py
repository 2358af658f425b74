# Fills the disk with many files that are each small enough.
# expect: output_limit | exception | memory_limit
# expect landlock: output_limit | timeout_cpu
part = b"x" * 1_000_000
for number in range(600):
    with open(f"f{number}", "wb") as file:
        file.write(part)
