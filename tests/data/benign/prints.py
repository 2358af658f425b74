# Prints on both streams, less than the cap.
# expect: passed
# limits: output=64K
# entry: shout
import sys

def shout(n):
    print("x" * n)
    print("y" * n, file=sys.stderr)
    return n

# --- tests ---
def check(candidate):
    assert candidate(10_000) == 10_000
    assert candidate(0) == 0

check(shout)
