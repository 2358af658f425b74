# No candidate at all.
# expect: exception
# entry: f
# --- candidate ---

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
