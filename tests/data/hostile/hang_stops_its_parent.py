# Stops whoever started it, and waits. What is not its own, it must not reach.
# expect: timeout_wall
# limits: wall=2s
import os
import signal
import time

try:
    os.kill(os.getppid(), signal.SIGSTOP)
except OSError:
    pass
time.sleep(60)
