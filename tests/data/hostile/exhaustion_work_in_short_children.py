# A row of children, each of which works less than the limit.
# expect: timeout_cpu | timeout_wall
# limits: wall=5s
import os
import time

for _ in range(100):
    if os.fork() == 0:
        while time.process_time() < 0.3:
            pass
        os._exit(0)
    os.wait()
