# Returns more than anyone should take.
# expect: memory_limit | wrong_answer | disputed
# entry: large
def large(n):
    return "x" * n

# --- tests ---
def check(candidate):
    assert candidate(400 << 20) == 3

check(large)
