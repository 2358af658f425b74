# Opens files by their number on the disk, past every folder.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(8 + 128)
handle[0] = 128
mount = ctypes.c_int()
where = os.open("/", os.O_RDONLY)
if libc.name_to_handle_at(where, b"etc", handle, ctypes.byref(mount), 0) < 0 or libc.open_by_handle_at(where, handle, 0) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
