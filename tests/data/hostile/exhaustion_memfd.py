# Memory that is a file, which no limit of address space counts.
# expect: exception
import os

fd = os.memfd_create("block")
part = b"x" * (1 << 20)
for _ in range(1500):
    os.write(fd, part)
