# Ends a process that is not its own.
# expect: exception
import os
import signal

done, failure = 0, None
for way in [
    lambda: os.kill(int("@PID@"), signal.SIGTERM),
    lambda: os.killpg(int("@PID@"), signal.SIGTERM),
    lambda: signal.pidfd_send_signal(os.pidfd_open(int("@PID@")), signal.SIGTERM),
]:
    try:
        way()
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
