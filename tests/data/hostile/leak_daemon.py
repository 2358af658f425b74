# A daemon of the old school, with every descriptor closed.
# expect: violation
# expect landlock: violation | exception
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 4096)
        time.sleep(20)
    os._exit(0)
os.wait()
time.sleep(0.1)
