# Starts programs without end.
# expect: process_limit
import subprocess
import time

children = [subprocess.Popen(["sleep", "5"]) for _ in range(200)]
time.sleep(5)
