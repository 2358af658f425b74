# A recursion without end that is caught.
# expect: passed
def endless():
    return endless()

try:
    endless()
except RecursionError:
    caught = True

# --- tests ---
assert caught
