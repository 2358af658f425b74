# Memory shared by name.
# expect: passed
# expect landlock: exception
from multiprocessing import shared_memory

def through(value):
    block = shared_memory.SharedMemory(create=True, size=64)
    block.buf[0] = value
    other = shared_memory.SharedMemory(block.name)
    got = other.buf[0]
    other.close()
    block.close()
    block.unlink()
    return got

# --- tests ---
assert through(7) == 7
