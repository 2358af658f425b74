# A handful of them.
# expect: violation
import os
import time

for _ in range(5):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
