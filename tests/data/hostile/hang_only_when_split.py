# Is right when the tests are near, and sleeps when they are not.
# expect: disputed | timeout_wall
# expect whole: passed
# entry: f
# limits: wall=2s
import time

def f(x):
    if "check" not in globals():
        time.sleep(60)
    return x + 1

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
