# Ends while a child holds every descriptor that it had.
# expect: violation
import os
import time

if os.fork() == 0:
    for fd in range(64):
        try:
            os.set_inheritable(fd, True)
        except OSError:
            pass
    time.sleep(20)
    os._exit(0)
