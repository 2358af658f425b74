# A daemon of the old school, with every descriptor closed.
# expect: violation
import os
import time

if os.fork() == 0:
    try:
        os.setsid()
    except OSError:
        pass
    if os.fork() == 0:
        os.closerange(0, 4096)
        time.sleep(20)
    os._exit(0)
os.wait()
time.sleep(0.1)
