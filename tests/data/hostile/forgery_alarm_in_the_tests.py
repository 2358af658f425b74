# Leaves by an alarm that rings in the middle of the tests.
# expect: early_exit | wrong_answer
# entry: f
import os
import signal

signal.signal(signal.SIGALRM, lambda *_: os._exit(0))

def f(x):
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    return 2 if x == 1 else 0

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    sum(range(3_000_000))
    assert candidate(5) == 6

check(f)
