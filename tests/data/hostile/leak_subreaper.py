# Becomes the one that orphans fall to, and keeps them from whoever asks.
# expect: violation
import ctypes
import os
import time

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if os.fork() == 0:
    if os.fork() == 0:
        os.closerange(0, 4096)
        time.sleep(20)
    os._exit(0)
time.sleep(0.2)
