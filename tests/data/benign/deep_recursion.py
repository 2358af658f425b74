# A recursion as deep as contests ask for.
# expect: passed
# entry: depth
import sys

sys.setrecursionlimit(20_000)

def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

# --- tests ---
def check(candidate):
    assert candidate(10_000) == 10_000

check(depth)
