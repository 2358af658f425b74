# The interpreter as a child.
# expect: passed
import subprocess
import sys

def ask(text):
    return subprocess.check_output([sys.executable, "-c", f"print({text})"], text=True).strip()

# --- tests ---
assert ask("1 + 1") == "2"
assert ask("__import__('json').dumps([1])") == "[1]"
