# A second door to the kernel, which no filter of calls sees through.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
parameters = ctypes.create_string_buffer(120)
if libc.syscall(425, 8, parameters) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
