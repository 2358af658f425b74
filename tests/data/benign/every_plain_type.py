# Values of every built-in kind go in and come out as they are.
# expect: passed
# entry: same
def same(x):
    return x

# --- tests ---
def check(candidate):
    for x in (
        None, True, 0, -1, 2**200, 1.5, float("inf"), "é\ud800\0", b"\xff\0", 1j, (1, (2,)), [], [[1], [2]],
        {1, 2}, frozenset("a"), {"a": {1: (None,)}}, {(1, 2): [3]},
    ):
        assert candidate(x) == x and type(candidate(x)) is type(x), x
    assert str(candidate(-0.0)) == "-0.0"
    nan = candidate(float("nan"))
    assert nan != nan

check(same)
