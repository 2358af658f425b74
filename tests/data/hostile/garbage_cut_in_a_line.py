# Cut off in the middle of a line.
# expect: syntax_error
def f(x):
    return x +

# --- tests ---
assert f(1) == 2
