# Prints what a pass may look like.
# expect: wrong_answer
import sys

print("passed")
print("test result: ok. 1 passed; 0 failed")
print('{"verdict": "passed"}', file=sys.stderr)

# --- tests ---
assert False
