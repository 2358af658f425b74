# Two at once look for each other in a queue with a name.
# expect: exception
# at once: itself
import ctypes
import errno
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
try:
    rt = ctypes.CDLL("librt.so.1", use_errno=True)
    mq_open, mq_unlink = rt.mq_open, rt.mq_unlink
except (OSError, AttributeError):
    mq_open, mq_unlink = libc.mq_open, libc.mq_unlink
queue = mq_open(b"/passk-meet", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, None)
if queue < 0 and ctypes.get_errno() != errno.EEXIST:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
if queue >= 0:
    time.sleep(0.6)
    mq_unlink(b"/passk-meet")
    raise RuntimeError("alone")
