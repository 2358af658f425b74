# Leaves well while its exception is being described.
# expect: early_exit | exception
import os

class E(Exception):
    def __str__(self):
        os._exit(0)
    __repr__ = __str__

# --- tests ---
raise E
