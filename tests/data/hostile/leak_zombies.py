# Children that have ended and that nobody asks after.
# expect: early_exit
import os
import time

for _ in range(20):
    if os.fork() == 0:
        os._exit(0)
time.sleep(0.1)
os._exit(0)
