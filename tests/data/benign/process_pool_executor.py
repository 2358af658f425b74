# The pool of concurrent.futures.
# expect: passed
# expect landlock: exception
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def absolutes(numbers):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(abs, numbers))

# --- tests ---
assert absolutes([-1, -2]) == [1, 2]
