# The child is given the tests, the parent waits for it and leaves.
# expect: early_exit | violation
import os

pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    os._exit(0)

# --- tests ---
assert True
