# A solution and its tests in MBPP's shape: asserts without an entry point.
# expect: passed
def square(x):
    return x * x

def cube(x):
    return x * square(x)

# --- tests ---
assert square(3) == 9
assert cube(3) == 27
assert square(cube(2)) == 64
