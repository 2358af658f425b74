# Ends everyone it may while an honest program runs beside it.
# expect: exception
# at once: threads_at_once
import os
import time

time.sleep(0.1)
try:
    os.kill(int("@PID@"), 0)
    reached = True
except OSError:
    reached = False
if not reached:
    os.kill(-1, 9)
    raise PermissionError("everyone is still there")
