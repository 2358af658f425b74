# A timer of its own.
# expect: passed
import signal
import time

def ring(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    time.sleep(20)
    rang = False
except TimeoutError:
    rang = True

# --- tests ---
assert rang
