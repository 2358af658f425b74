# Lines that stand nowhere.
# expect: syntax_error
def f(x):
return x + 1

# --- tests ---
assert f(1) == 2
