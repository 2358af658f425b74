# Leaves with a good status before its tests.
# expect: early_exit
def f(x):
    return 0

exit(0)

# --- tests ---
assert f(1) == 2
