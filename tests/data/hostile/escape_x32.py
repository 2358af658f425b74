# Calls the kernel by the numbers of the x32 interface.
# expect: violation
# only: x86_64
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
X32 = 0x40000000
if libc.syscall(X32 | 39) < 0:  # getpid
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
