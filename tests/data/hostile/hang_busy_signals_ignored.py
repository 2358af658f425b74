# Works for ever, and ignores whatever it is told.
# expect: timeout_cpu
import signal

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
