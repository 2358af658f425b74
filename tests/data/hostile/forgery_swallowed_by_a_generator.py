# Raises what a careless runner takes for the end of the tests.
# expect: exception
# entry: f
def f(x):
    raise StopIteration

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
