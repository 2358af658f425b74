# Raises what a careless runner takes for the wish of its user.
# expect: exception
# entry: f
def f(x):
    raise KeyboardInterrupt

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
