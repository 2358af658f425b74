# Takes over another process as a debugger would.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
for pid in {int("@PID@"), os.getppid(), 1} - {os.getpid(), 0}:
    if libc.ptrace(0x4206, pid, 0, 0) == 0:  # PTRACE_SEIZE
        break
else:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
