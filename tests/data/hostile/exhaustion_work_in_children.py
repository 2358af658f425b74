# Lets children do the work while it waits: time of the sum, not of the first.
# expect: timeout_cpu | timeout_wall
# limits: wall=4s
import os

for _ in range(4):
    if os.fork() == 0:
        while True:
            pass
for _ in range(4):
    os.wait()
