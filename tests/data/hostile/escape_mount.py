# Mounts, remounts and unmounts.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("m")
MS_REMOUNT, MS_BIND = 32, 4096
ways = [
    lambda: libc.mount(b"none", b"m", b"tmpfs", 0, None),
    lambda: libc.mount(b"none", b"m", b"proc", 0, None),
    lambda: libc.mount(b"/", b"m", None, MS_BIND, None),
    lambda: libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND, None),
    lambda: libc.mount(None, b"/usr", None, MS_REMOUNT | MS_BIND, None),
    lambda: libc.umount2(b"/proc", 2),
    lambda: libc.umount2(b"/", 2),
    lambda: min(0, libc.syscall(430, b"tmpfs", 0)),  # fsopen
    lambda: min(0, libc.syscall(428, -100, b"/", 1)),  # open_tree(OPEN_TREE_CLONE)
]
if not any(way() == 0 for way in ways):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
