# Takes all the processes that it may while an honest program needs some.
# expect: process_limit
# at once: multiprocessing_pool
import os
import time

for _ in range(200):
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
time.sleep(3)
