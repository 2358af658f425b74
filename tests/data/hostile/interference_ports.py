# Two at once look for each other at a port.
# expect: exception
# at once: itself
import errno
import socket
import time

try:
    mine = socket.socket()
    mine.bind(("127.0.0.1", 47123))
    mine.listen()
except OSError as error:
    if error.errno != errno.EADDRINUSE:
        raise
else:
    time.sleep(0.6)
    raise RuntimeError("alone")
