# An argument that is no plain value.
# expect: passed
# entry: twice
def twice(f, x):
    return f(f(x))

# --- tests ---
def check(candidate):
    assert candidate(lambda x: x + 1, 1) == 3

check(twice)
