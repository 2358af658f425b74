# Returns a number that is equal to every number.
# expect: disputed
# expect whole: passed
# entry: f
class Lie(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__

def f(x):
    return Lie(0)

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    assert candidate(5) == 6

check(f)
