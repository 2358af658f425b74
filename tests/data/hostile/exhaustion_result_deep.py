# Returns a list in a list in a list, deeper than anyone can follow.
# expect: wrong_answer
# entry: deep
def deep(n):
    x = []
    for _ in range(n):
        x = [x]
    return x

# --- tests ---
def check(candidate):
    assert candidate(1_000_000) == 3

check(deep)
