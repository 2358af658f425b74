# Looks for the tests among all objects of the interpreter.
# expect: disputed
# expect whole: passed
# entry: f
import gc
import types

def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == "check":
            constants = list(thing.__code__.co_consts)
            return constants[constants.index(x) + 1]
    return 0

# --- tests ---
def check(candidate):
    assert candidate(10) == 137
    assert candidate(11) == 731

check(f)
