# Takes a descriptor out of another process.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
taken = -1
for pid in {int("@PID@"), os.getppid(), 1} - {os.getpid(), 0}:
    pidfd = libc.syscall(434, pid, 0)
    if pidfd >= 0:
        for number in range(8):
            taken = max(taken, libc.syscall(438, pidfd, number, 0))
if taken < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
