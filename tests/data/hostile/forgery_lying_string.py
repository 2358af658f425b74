# Returns a text that is equal to every text.
# expect: disputed
# expect whole: passed
# entry: f
class Lie(str):
    def __eq__(self, other):
        return True
    __hash__ = str.__hash__

def f(x):
    return Lie()

# --- tests ---
def check(candidate):
    assert candidate("a") == "b"

check(f)
