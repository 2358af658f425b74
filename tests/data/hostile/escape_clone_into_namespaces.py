# Starts a child in namespaces of its own, by both calls that can.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
SIGCHLD, NEWUSER, NEWNS = 17, 0x10000000, 0x00020000

def clone(flags):
    return libc.syscall(56 if os.uname().machine == "x86_64" else 220, flags | SIGCHLD, 0, 0, 0, 0)

def clone3(flags):
    arguments = (ctypes.c_uint64 * 11)(flags, 0, 0, 0, SIGCHLD)
    return libc.syscall(435, ctypes.byref(arguments), 88)

for make in (clone, clone3):
    for flags in (NEWUSER | NEWNS, NEWUSER, NEWNS):
        pid = make(flags)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            os.waitpid(pid, 0)
            made = pid
            break
    else:
        continue
    break
else:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
