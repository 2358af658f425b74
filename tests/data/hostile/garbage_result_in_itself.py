# Returns a list that holds itself.
# expect: wrong_answer | exception
# entry: f
def f(x):
    x = []
    x.append(x)
    return x

# --- tests ---
def check(candidate):
    assert candidate(1) == [2]

check(f)
