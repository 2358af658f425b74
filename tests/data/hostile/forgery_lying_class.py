# Says that it is of the kind that was asked for.
# expect: disputed
# expect whole: passed
# entry: f
class Lie:
    __class__ = int
    def __eq__(self, other):
        return True

def f(x):
    return Lie()

# --- tests ---
def check(candidate):
    assert isinstance(candidate(1), int) and candidate(1) == 2

check(f)
