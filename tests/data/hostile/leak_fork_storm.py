# Processes that always fork before they end: whoever is seen is gone already.
# expect: violation | process_limit | timeout_cpu | timeout_wall
import os
import time

if os.fork() == 0:
    os.closerange(0, 4096)
    until = time.time() + 5
    while time.time() < until:
        if os.fork():
            os._exit(0)
    os._exit(0)
time.sleep(0.1)
