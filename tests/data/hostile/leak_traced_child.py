# A child in the hands of a debugger that has gone.
# expect: exception
import ctypes
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
pid = os.fork()
if pid == 0:
    if libc.ptrace(0, 0, 0, 0) < 0:
        os._exit(1)
    os.closerange(0, 4096)
    time.sleep(20)
    os._exit(0)
time.sleep(0.1)
ended, status = os.waitpid(pid, os.WNOHANG)
if ended:
    raise PermissionError("no debugger here")
