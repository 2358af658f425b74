# A thread that leaves well while the tests wait.
# expect: early_exit
# entry: f
import os
import threading
import time

def f(x):
    threading.Timer(0.05, os._exit, args=(0,)).start()
    time.sleep(5)
    return 0

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

check(f)
