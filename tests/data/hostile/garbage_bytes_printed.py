# Prints bytes that are no text, and is wrong.
# expect: wrong_answer
import sys

sys.stdout.buffer.write(bytes(range(256)) * 16 + b"\xff\xfe\xc3\x28")
sys.stdout.flush()

# --- tests ---
assert False
