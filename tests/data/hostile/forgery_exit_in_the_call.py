# Leaves when it is called.
# expect: early_exit
# entry: f
import sys

def f(x):
    sys.exit(0)

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
