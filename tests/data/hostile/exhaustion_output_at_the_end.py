# Keeps it all back until the tests are done.
# expect: output_limit
# limits: memory=512M
import sys

sys.stdout.write("x" * (8 << 20))
x = 1

# --- tests ---
assert x == 1
