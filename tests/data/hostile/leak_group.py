# A child in a group of its own.
# expect: violation
import os
import time

if os.fork() == 0:
    try:
        os.setpgid(0, 0)
    except OSError:
        pass
    os.closerange(0, 4096)
    time.sleep(20)
    os._exit(0)
time.sleep(0.1)
