# Returns something that can be walked for ever.
# expect: timeout_cpu | timeout_wall | memory_limit
# entry: endless
# limits: wall=5s
import itertools

def endless(n):
    return itertools.count(n)

# --- tests ---
def check(candidate):
    assert list(candidate(1)) == [1]

check(endless)
