# Changes the priority of others and of itself.
# expect: exception
import os

done, failure = 0, None
for way in [
    lambda: os.setpriority(os.PRIO_PROCESS, int("@PID@"), 19),
    lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    lambda: os.sched_setaffinity(int("@PID@"), {0}),
]:
    try:
        way()
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
