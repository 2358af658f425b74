# Prints on the other stream without end.
# expect: output_limit
import os

while True:
    os.write(2, b"x" * 1000)
