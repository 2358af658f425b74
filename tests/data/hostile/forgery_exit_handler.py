# Leaves well from an exit handler, whatever came before.
# expect: wrong_answer
import atexit
import os

atexit.register(os._exit, 0)

# --- tests ---
assert False
