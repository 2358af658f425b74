# Two at once: each ends everyone it may. A probe goes first: where it reaches others, nothing more is done.
# expect: exception
# at once: itself
import os
import time

time.sleep(0.2)
try:
    os.kill(int("@PID@"), 0)
    reached = True
except OSError:
    reached = False
if not reached:
    os.kill(-1, 9)
    raise PermissionError("everyone is still there")
