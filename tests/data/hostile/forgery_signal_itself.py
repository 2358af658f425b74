# Ends itself by a signal that looks like the harness's own.
# expect: signal
import os

os.kill(os.getpid(), 9)

# --- tests ---
assert False
