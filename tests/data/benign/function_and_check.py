# A solution and its tests in HumanEval's shape.
# expect: passed
# entry: add_one
def add_one(x):
    """ >>> add_one(1)
    2
    """
    return x + 1

# --- tests ---
METADATA = {"author": "nobody"}

def check(candidate):
    assert candidate(1) == 2
    assert candidate(-1) == 0
    assert candidate(1.5) == 2.5

check(add_one)
