# Hides the liar in an honest list.
# expect: disputed
# expect whole: passed
# entry: f
class Lie(float):
    def __eq__(self, other):
        return True
    def __sub__(self, other):
        return 0.0
    __rsub__ = __sub__
    __hash__ = float.__hash__

def f(x):
    return [Lie(), (Lie(), {"a": Lie()})]

# --- tests ---
def check(candidate):
    assert candidate(1) == [2.0, (3.0, {"a": 4.0})]
    assert abs(candidate(1)[0] - 17.5) < 1e-6

check(f)
