# A child that leads a session, and is waited for.
# expect: passed
# expect landlock: exception
import subprocess

child = subprocess.run(["true"], start_new_session=True)

# --- tests ---
assert child.returncode == 0
