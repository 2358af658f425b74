# Whatever stands under the guard is not run.
# expect: passed
def f():
    return 1

if __name__ == "__main__":
    raise ValueError

# --- tests ---
assert f() == 1
