# Memory of the kernel, in pipes that nobody reads. The kernel allows a user 64 MiB, and then a page or two a pipe.
# expect: exception | memory_limit | output_limit
import fcntl
import os

held = 0
for _ in range(200):
    r, w = os.pipe()
    os.set_blocking(w, False)
    try:
        fcntl.fcntl(w, 1031, 1 << 20)  # F_SETPIPE_SZ
    except OSError:
        pass
    try:
        while True:
            held += os.write(w, b"x" * 65536)
    except BlockingIOError:
        pass
if held < 80 << 20:
    raise OSError("refused")
