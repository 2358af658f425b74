# Lines that stand at two places.
# expect: syntax_error
# let TAB: "\t"
def f(x):
        if x:
@TAB@return x
        return 1

# --- tests ---
assert f(1) == 1
