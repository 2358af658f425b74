# Prints one line without end.
# expect: output_limit
import sys

while True:
    sys.stdout.write("x")
