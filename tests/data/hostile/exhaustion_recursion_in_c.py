# A recursion without end below Python, which ends in a crash.
# expect: signal | memory_limit | exception | timeout_cpu
import sys

sys.setrecursionlimit(10**9)
x = []
for _ in range(3_000_000):
    x = [x]
repr(x)
raise MemoryError
