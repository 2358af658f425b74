# A child in its own group that sleeps on.
# expect: violation
import os
import time

if os.fork() == 0:
    os.closerange(0, 4096)
    time.sleep(20)
    os._exit(0)
