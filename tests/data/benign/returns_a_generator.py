# A result that is no plain value.
# expect: passed
# entry: count
def count(n):
    yield from range(n)

# --- tests ---
def check(candidate):
    assert list(candidate(3)) == [0, 1, 2]

check(count)
