# The names that site adds.
# expect: passed
# --- candidate ---
def f():
    return callable(exit) and callable(quit)

# --- tests ---
assert f()
