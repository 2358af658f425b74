# Waits in a thread for the tests to be defined, and puts others in their place.
# expect: disputed | wrong_answer
# expect whole: passed | wrong_answer
# entry: f
import sys
import threading

sys.setswitchinterval(1e-6)

def swap(names):
    while "check" not in names:
        pass
    names["check"] = lambda candidate: None

threading.Thread(target=swap, args=(globals(),), daemon=True).start()

def f(x):
    return 0

# --- tests ---
def check(candidate):
    assert candidate(1) == 2

sum(range(1_000_000))
check(f)
