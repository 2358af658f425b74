# Ends with its streams closed.
# expect: passed
import sys

sys.stdout.close()
sys.stderr.close()
x = 1

# --- tests ---
assert x == 1
