# What the program defines goes through pickle.
# expect: passed
import collections
import enum
import pickle

Point = collections.namedtuple("Point", "x")

class Colour(enum.Enum):
    RED = 1

class Tree:
    def __init__(self, *children):
        self.children = children

def through(x):
    return pickle.loads(pickle.dumps(x))

# --- tests ---
assert through([Point(1), Colour.RED]) == [Point(1), Colour.RED]
assert len(through(Tree(Tree(), Tree())).children) == 2
