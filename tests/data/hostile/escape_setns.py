# Enters the namespaces of another process.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
entered, failure = 0, OSError("none was there")
for pid in {1, os.getppid(), int("@PID@")} - {0}:
    for kind in ("user", "mnt", "net", "pid"):
        try:
            fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        except OSError as error:
            failure = error
            continue
        if libc.setns(fd, 0) == 0:
            entered += 1
        os.close(fd)
if not entered:
    raise failure
