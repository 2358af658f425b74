# Needs a little more than it may, and is right.
# expect: timeout_cpu
import time

while time.process_time() < 1.05:
    pass
