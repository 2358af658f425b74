# Prints all that it may.
# expect: passed
# limits: output=64K
import sys

for _ in range(64):
    sys.stdout.write("x" * 1023 + "\n")
sys.stdout.flush()
