# A shell as a child.
# expect: passed
import os
import subprocess

# --- tests ---
assert subprocess.check_output("echo $TZ", shell=True) == b"UTC\n"
assert os.system("true") == 0
assert os.popen("echo a | cat").read() == "a\n"
