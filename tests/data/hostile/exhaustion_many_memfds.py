# Memory in many such files, each within the limit of a file.
# expect: exception
import os

part, held = b"x" * (1 << 20), []
for _ in range(900):
    fd = os.memfd_create("block")
    os.write(fd, part)
    held.append(fd)
