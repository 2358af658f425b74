# Two at once look for each other by an abstract name.
# expect: exception
# at once: itself
import errno
import socket
import time

try:
    mine = socket.socket(socket.AF_UNIX)
    mine.bind("\0passk-meet")
except OSError as error:
    if error.errno != errno.EADDRINUSE:
        raise
else:
    time.sleep(0.6)
    raise RuntimeError("alone")
