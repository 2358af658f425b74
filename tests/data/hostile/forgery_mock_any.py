# Returns the library's own object that is equal to everything.
# expect: disputed
# expect whole: passed
# entry: f
from unittest.mock import ANY

def f(x):
    return ANY

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
