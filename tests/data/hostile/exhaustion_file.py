# Writes one file without end.
# expect: output_limit
with open("a", "wb") as file:
    for _ in range(40_000):
        file.write(b"x" * 65536)
