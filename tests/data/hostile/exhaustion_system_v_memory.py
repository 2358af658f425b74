# Memory of an older kind, which outlives those who made it.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
made = 0
for _ in range(20):
    number = libc.shmget(0, 50 << 20, 0o1600)
    if number >= 0:
        where = libc.shmat(number, None, 0)
        ctypes.memset(where, 1, 50 << 20)
        libc.shmctl(number, 0, None)  # goes with its last user, should the jail not hold
        made += 1
if not made:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
