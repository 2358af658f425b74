# Calls that change the whole machine; each in a form that would change nothing.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine != "x86_64"
libc.reboot.argtypes = [ctypes.c_int]
buffer = ctypes.create_string_buffer(256)
ways = [
    lambda: libc.reboot(0x89ABCDEF - (1 << 32)),  # Ctrl-Alt-Del on, as it is
    lambda: libc.acct(None),
    lambda: libc.sethostname(os.uname().nodename.encode(), len(os.uname().nodename)),
    lambda: libc.klogctl(3, buffer, 256),
    lambda: libc.iopl(3) if not arm else -1,
]
if not any(way() >= 0 for way in ways):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
