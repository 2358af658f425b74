# Locks, conditions, queues.
# expect: passed
import queue
import threading

def through(items):
    q, out = queue.Queue(maxsize=1), []

    def drain():
        while (item := q.get()) is not None:
            out.append(item)

    thread = threading.Thread(target=drain)
    thread.start()
    for item in items:
        q.put(item)
    q.put(None)
    thread.join()
    return out

# --- tests ---
assert through([1, 2, 3]) == [1, 2, 3]
