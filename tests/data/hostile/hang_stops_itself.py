# Stops itself, as a terminal would.
# expect: timeout_wall
# limits: wall=2s
import os
import signal

os.kill(os.getpid(), signal.SIGSTOP)
time_goes_on = True
raise RuntimeError("went on")
