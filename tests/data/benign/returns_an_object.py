# A result of the program's own kind.
# expect: passed
# entry: point
class Point:
    def __init__(self, x):
        self.x = x

def point(x):
    return Point(x)

# --- tests ---
def check(candidate):
    assert candidate(3).x == 3

check(point)
