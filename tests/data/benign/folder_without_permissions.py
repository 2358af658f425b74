# Leaves a folder that is hard to remove.
# expect: passed
import os

os.makedirs("a/b")
open("a/b/c", "w").close()
os.chmod("a/b", 0)
os.chmod("a", 0)

# --- tests ---
assert os.path.exists(".")
