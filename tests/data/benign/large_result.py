# A result of a megabyte.
# expect: passed
# entry: block
def block(n):
    return list(range(n))

# --- tests ---
def check(candidate):
    assert candidate(100_000) == list(range(100_000))

check(block)
