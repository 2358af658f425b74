# Reads and writes the keys that the kernel keeps for the user.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine != "x86_64"
add_key, keyctl = (217, 219) if arm else (248, 250)
done = [
    libc.syscall(add_key, b"user", b"passk", b"note", 4, -4),
    libc.syscall(keyctl, 0, -3, 1),
    libc.syscall(keyctl, 0, -4, 1),
]
if max(done) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
