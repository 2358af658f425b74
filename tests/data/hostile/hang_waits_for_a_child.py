# Waits for a child that never ends.
# expect: timeout_wall
# limits: wall=2s
import subprocess

subprocess.run(["sleep", "60"])
