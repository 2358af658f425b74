# Two at once look for each other in memory with a name.
# expect: exception
# at once: itself
import time
from multiprocessing import resource_tracker, shared_memory

mine = None
try:
    mine = shared_memory.SharedMemory("passk-meet", create=True, size=64)
except FileExistsError:
    pass
else:
    time.sleep(0.6)
    mine.close()
    mine.unlink()
    raise RuntimeError("alone")
