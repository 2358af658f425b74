# Returns a list that is equal to every list.
# expect: disputed
# expect whole: passed
# entry: f
class Lie(list):
    def __eq__(self, other):
        return True

def f(x):
    return Lie([1, 2, 3])

# --- tests ---
def check(candidate):
    assert candidate([]) == [1]
    assert candidate([2]) == [4]

check(f)
