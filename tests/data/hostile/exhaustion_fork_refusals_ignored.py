# Goes on forking when it is refused.
# expect: process_limit
import os
import time

until = time.time() + 1
while time.time() < until:
    try:
        if os.fork() == 0:
            time.sleep(4)
            os._exit(0)
    except OSError:
        pass
time.sleep(3)
