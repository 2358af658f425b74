# Leaves well when an object is thrown away.
# expect: early_exit | wrong_answer
import os

class Last:
    def __del__(self):
        os._exit(0)

last = Last()

# --- tests ---
del last
assert False
