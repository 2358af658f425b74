# Loads a program into the kernel, or listens to its counters.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine != "x86_64"
attributes = ctypes.create_string_buffer(128)
attributes[0], attributes[4], attributes[8], attributes[12] = 2, 4, 4, 1  # an array map of one entry
counter = ctypes.create_string_buffer(128)
counter[0], counter[4] = 1, 112
ways = [
    lambda: libc.syscall(280 if arm else 321, 0, attributes, 64),
    lambda: libc.syscall(241 if arm else 298, counter, 0, -1, -1, 0),
    lambda: libc.syscall(282 if arm else 323, 0),  # userfaultfd with faults of the kernel
]
if not any(way() >= 0 for way in ways):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
