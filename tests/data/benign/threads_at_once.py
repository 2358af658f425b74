# Threads that are there at the same time.
# expect: passed
import threading

def meet(n):
    barrier = threading.Barrier(n)
    seen = []

    def one():
        barrier.wait()
        seen.append(threading.get_ident())

    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(set(seen))

# --- tests ---
assert meet(16) == 16
