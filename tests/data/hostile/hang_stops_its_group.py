# Stops its whole group.
# expect: timeout_wall
# limits: wall=2s
import os
import signal
import time

os.kill(0, signal.SIGSTOP)
time.sleep(60)
