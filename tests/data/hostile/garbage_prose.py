# Words.
# expect: syntax_error
# --- candidate ---
Sure! Here is a function that does what you asked for:

# --- tests ---
assert f(1) == 2
