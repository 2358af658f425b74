# Leaves at once, past every handler.
# expect: early_exit
import os

os._exit(0)

# --- tests ---
assert False
