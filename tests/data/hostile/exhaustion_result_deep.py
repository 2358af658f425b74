# Returns a list in a list in a list, deeper than anyone can follow.
# expect: disputed | exception | signal | memory_limit
# expect whole: wrong_answer
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
