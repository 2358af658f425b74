# A pool of processes.
# expect: passed
# expect landlock: exception
import multiprocessing as mp

def square(x):
    return x * x

def squares(n):
    with mp.get_context("fork").Pool(2) as pool:
        return pool.map(square, range(n))

# --- tests ---
assert squares(5) == [0, 1, 4, 9, 16]
