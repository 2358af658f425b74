# Memory that is shared with nobody, mapped from nothing.
# expect: memory_limit
import mmap

blocks = []
for _ in range(100):
    block = mmap.mmap(-1, 20 << 20)
    block.write(b"x" * (20 << 20))
    blocks.append(block)
