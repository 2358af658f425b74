# A thread with a stack of its own size.
# expect: passed
import sys
import threading

sys.setrecursionlimit(100_000)
threading.stack_size(64 << 20)

def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

def deep(n):
    out = []
    thread = threading.Thread(target=lambda: out.append(depth(n)))
    thread.start()
    thread.join()
    return out[0]

# --- tests ---
assert deep(20_000) == 20_000
