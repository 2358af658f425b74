# A pool of threads.
# expect: passed
from concurrent.futures import ThreadPoolExecutor

def absolutes(numbers):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(abs, numbers))

# --- tests ---
assert absolutes([-1, -2, 3]) == [1, 2, 3]
