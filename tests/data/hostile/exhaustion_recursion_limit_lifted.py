# A recursion without end where the interpreter's own guard is gone.
# expect: memory_limit | signal | timeout_cpu
import sys

sys.setrecursionlimit(10**9)

def f(x):
    return [f([x])]

f(0)
