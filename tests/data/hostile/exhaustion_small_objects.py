# Grows a chain of small things.
# expect: memory_limit
x = None
for _ in range(300_000):
    x = [x, bytes(9000)]
