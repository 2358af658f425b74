# A solution with a memory.
# expect: passed
# entry: fibonacci
import functools

@functools.lru_cache(None)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

# --- tests ---
def check(candidate):
    assert candidate(90) == 2880067194370816120
    assert candidate(91) == 4660046610375530309

check(fibonacci)
