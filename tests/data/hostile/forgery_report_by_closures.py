# Finds the function that reports among all objects and calls it.
# expect: violation | early_exit | wrong_answer | disputed
# expect whole: violation | early_exit | wrong_answer | passed
# entry: f
import gc
import types

def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == "report":
            for arguments in [(b"passed",), ("passed",), (b"passed", "")]:
                try:
                    thing(*arguments)
                except Exception:
                    pass
    return 0

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
