# Sleeps when it is called.
# expect: timeout_wall
# entry: f
# limits: wall=2s
import time

def f(x):
    time.sleep(60)

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
