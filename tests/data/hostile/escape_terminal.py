# Types into the terminal that the harness was started from.
# expect: exception
import fcntl
import os

done, failure = 0, None
for path in ["/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(fd, 0x5412, b"x")  # TIOCSTI
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
