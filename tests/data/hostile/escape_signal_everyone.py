# Ends everyone it may. A probe goes first: where it reaches others, that is the finding, and nothing more is done.
# expect: exception
import os

try:
    os.kill(int("@PID@"), 0)
    reached = True
except OSError:
    reached = False
if not reached:
    os.kill(-1, 9)
    raise PermissionError("everyone is still there")
