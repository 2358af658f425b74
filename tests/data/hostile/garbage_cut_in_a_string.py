# Cut off in the middle of a text.
# expect: syntax_error
def f(x):
    return """and then

# --- tests ---
assert f(1) == 2
