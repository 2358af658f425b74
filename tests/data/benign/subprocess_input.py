# A child that is fed.
# expect: passed
import subprocess

def upper(text):
    return subprocess.run(["tr", "a-z", "A-Z"], input=text, capture_output=True, text=True).stdout

# --- tests ---
assert upper("abc" * 50_000) == "ABC" * 50_000
