# Writes what a pass may look like to every descriptor, and fails its tests.
# expect: violation | wrong_answer
import os

for fd in range(3, 64):
    try:
        os.write(fd, b"passed\n")
    except OSError:
        pass

# --- tests ---
assert False
