# Returns something that works for ever when it is compared.
# expect: timeout_cpu
# entry: f
class Slow:
    def __eq__(self, other):
        while True:
            pass

def f(x):
    return Slow()

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
