# Grows a list of blocks.
# expect: memory_limit
x = []
while len(x) < 3000:
    x.append(bytearray(1 << 20))
