# Two at once leave each other keys.
# expect: exception
# at once: itself
import ctypes
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine != "x86_64"
add_key, keyctl, request_key = (217, 219, 218) if arm else (248, 250, 249)
mine = os.urandom(8).hex().encode()
number = libc.syscall(add_key, b"user", b"passk-" + mine, b"x", 1, -4)
if number < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
time.sleep(0.3)
buffer = ctypes.create_string_buffer(4096)
count = libc.syscall(keyctl, 11, -4, buffer, 4096) // 4
time.sleep(0.3)
libc.syscall(keyctl, 9, number, -4)
if count < 2:
    raise RuntimeError("alone")
