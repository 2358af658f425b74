# Fills the memory up to the last block and goes on.
# expect: memory_limit | timeout_cpu
x = []
for size in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
    try:
        while len(x) < 100_000:
            x.append(bytearray(size))
    except MemoryError:
        pass
raise MemoryError
