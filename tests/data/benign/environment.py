# Nothing of the caller's, and the fixed handful.
# expect: passed
import os
import time

# --- tests ---
assert os.environ["TZ"] == "UTC" and time.timezone == 0
assert os.environ["LANG"] == "C.UTF-8"
assert os.environ["PYTHONHASHSEED"] == "0"
assert os.environ["OMP_NUM_THREADS"] == "1"
assert len(os.environ) < 12, sorted(os.environ)
