# Makes namespaces of its own, in which it would be root.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for flags in [0x10000000 | 0x00020000, 0x10000000, 0x00020000, 0x40000000, 0x20000000]:
    if libc.unshare(flags) == 0:
        break
else:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
