# A child that asks not to be told when its parent dies.
# expect: violation
import ctypes
import os
import time

if os.fork() == 0:
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    os.closerange(0, 4096)
    time.sleep(20)
    os._exit(0)
time.sleep(0.05)
