# A program of nothing but its tests.
# expect: passed

# --- tests ---
assert True
