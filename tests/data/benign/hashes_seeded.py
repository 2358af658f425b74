# The same hashes here and in an interpreter of its own.
# expect: passed
import subprocess
import sys

child = subprocess.run([sys.executable, "-c", "print(hash('a'))"], capture_output=True, text=True)

# --- tests ---
assert int(child.stdout) == hash("a"), child
