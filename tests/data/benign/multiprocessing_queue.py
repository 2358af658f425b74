# A process and a queue.
# expect: passed
# expect landlock: exception
import multiprocessing as mp

def through(item):
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=queue.put, args=(item,))
    child.start()
    got = queue.get()
    child.join()
    return got

# --- tests ---
assert through([1, "a"]) == [1, "a"]
