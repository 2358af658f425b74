# Leaves at once when it is called.
# expect: early_exit
# entry: f
import os

def f(x):
    os._exit(0)

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
