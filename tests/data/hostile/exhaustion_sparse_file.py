# A file that is larger than every disk, with nothing in it.
# expect: output_limit
import os

fd = os.open("a", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 42)
