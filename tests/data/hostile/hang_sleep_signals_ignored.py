# Sleeps, and ignores whatever it is told.
# expect: timeout_wall
# limits: wall=2s
import signal
import time

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(60)
