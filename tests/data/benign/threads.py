# Many threads that end.
# expect: passed
# limits: processes=128
import threading

def gather(n):
    out = []
    threads = [threading.Thread(target=out.append, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(out)

# --- tests ---
assert gather(60) == list(range(60))
