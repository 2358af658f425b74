# Leaving is an exception like another.
# expect: passed
import sys

try:
    sys.exit(3)
except SystemExit as error:
    code = error.code

# --- tests ---
assert code == 3
