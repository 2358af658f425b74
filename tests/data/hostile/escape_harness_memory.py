# Writes into the memory of the process that started it.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(16)

class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

reached = []
for pid in {os.getppid(), int("@HARNESS@"), int("@PID@"), 1} - {os.getpid(), 0}:
    try:
        for line in open(f"/proc/{pid}/maps"):
            start = int(line.split("-")[0], 16)
            local, remote = Vec(ctypes.addressof(buffer), 16), Vec(start, 16)
            if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0:
                reached.append(pid)
                break
    except OSError:
        pass
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
        reached.append(pid)
    except OSError:
        pass
if not reached:
    raise PermissionError("kept out")
