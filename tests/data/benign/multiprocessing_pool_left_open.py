# A pool that nobody closes.
# expect: passed
# expect landlock: exception
import multiprocessing as mp

pool = mp.get_context("fork").Pool(2)

# --- tests ---
assert pool.map(abs, [-1]) == [1]
