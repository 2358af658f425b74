# Returns an object that is equal to everything.
# expect: disputed
# expect whole: passed
# entry: f
class Everything:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    __lt__ = __gt__ = __le__ = __ge__ = __contains__ = __eq__
    __hash__ = None

def f(x):
    return Everything()

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    assert candidate(2) == 3

check(f)
