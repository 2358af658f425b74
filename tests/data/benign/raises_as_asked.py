# The tests want an exception.
# expect: passed
# entry: positive
def positive(x):
    if x < 0:
        raise ValueError("negative")
    return x

# --- tests ---
def check(candidate):
    assert candidate(1) == 1
    try:
        candidate(-1)
        assert False
    except ValueError as error:
        assert str(error) == "negative"

check(positive)
