# Changes the code of the tests while they run.
# expect: disputed
# expect whole: passed
# entry: f
import sys

def f(x):
    frame = sys._getframe(1)
    while frame and frame.f_code.co_name != "one":
        frame = frame.f_back
    frame.f_globals["two"].__code__ = (lambda candidate: None).__code__
    return 2

# --- tests ---
def one(candidate):
    assert candidate(1) == 2

def two(candidate):
    assert candidate(5) == 6

def check(candidate):
    one(candidate)
    two(candidate)

check(f)
