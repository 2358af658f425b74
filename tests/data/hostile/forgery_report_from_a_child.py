# A child that lives on writes the report after the parent failed.
# expect: violation | wrong_answer
import os
import time

if os.fork() == 0:
    time.sleep(0.3)
    for fd in range(3, 64):
        try:
            os.write(fd, b"passed\n")
        except OSError:
            pass
    os._exit(0)

# --- tests ---
assert False
