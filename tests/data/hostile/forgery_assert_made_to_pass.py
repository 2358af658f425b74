# Changes a small number for the whole interpreter, so that wrong is right.
# expect: disputed | signal | wrong_answer | exception | early_exit
# expect whole: passed | signal | wrong_answer | exception | early_exit
# entry: f
import ctypes
import sys

def f(x):
    where = id(137) + sys.getsizeof(0) - 4
    ctypes.c_uint32.from_address(where).value = 5
    return 5

# --- tests ---
def check(candidate):
    assert candidate(1) == 137

check(f)
