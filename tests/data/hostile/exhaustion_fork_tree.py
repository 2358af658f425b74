# Every child forks again, nine times over.
# expect: process_limit
import os
import time

for _ in range(9):
    os.fork()
time.sleep(4)
