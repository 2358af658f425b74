# Nothing to read, and no error.
# expect: passed
import sys

# --- tests ---
assert sys.stdin.read() == ""
