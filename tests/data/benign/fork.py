# A child that is waited for.
# expect: passed
import os

pid = os.fork()
if pid == 0:
    os._exit(7)
ended, status = os.waitpid(pid, 0)

# --- tests ---
assert (ended, os.waitstatus_to_exitcode(status) if hasattr(os, "waitstatus_to_exitcode") else status >> 8) == (pid, 7)
