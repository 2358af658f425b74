# The last line has no end of its own.
# expect: passed
# let NOTHING: ""
x = 1

# --- tests ---
assert x == 1@NOTHING@
