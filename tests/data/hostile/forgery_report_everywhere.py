# Writes what a pass may look like to every descriptor, and goes.
# expect: violation
import os

for fd in range(3, 64):
    try:
        os.write(fd, b"begun\n00 passed \n{\"verdict\": \"passed\"}\npassed\n")
    except OSError:
        pass
os._exit(0)

# --- tests ---
assert False
