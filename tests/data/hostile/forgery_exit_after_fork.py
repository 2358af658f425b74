# The parent leaves well, the child goes on.
# expect: early_exit | violation
import os
import time

if os.fork():
    os._exit(0)
time.sleep(0.2)

# --- tests ---
assert True
