# A daemon thread that never ends.
# expect: passed
import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
x = 1

# --- tests ---
assert x == 1
