# Forks as often as it can. The children end by themselves: a broken jail is a failed test, not a dead machine.
# expect: process_limit
import os
import time

for _ in range(400):
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
time.sleep(5)
