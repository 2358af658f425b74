# Two at once speak by locks on a file that both may only read.
# expect: exception
# at once: itself
import errno
import fcntl
import os
import time

file = open(os.__file__)
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    if error.errno not in (errno.EAGAIN, errno.EACCES) or isinstance(error, PermissionError):
        raise
else:
    time.sleep(0.6)
    raise RuntimeError("alone")
