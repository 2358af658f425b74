# Becomes another program, which ends well.
# expect: early_exit
import os

os.execv("/bin/sh", ["sh", "-c", "exit 0"])

# --- tests ---
assert False
