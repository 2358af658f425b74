# Opens the devices that there are.
# expect: exception
import glob
import os

opened = []
harmless = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
for path in glob.glob("/dev/*") + glob.glob("/dev/pts/*") + glob.glob("/dev/net/*") + ["/dev/tty", "/dev/ptmx"]:
    real = os.path.realpath(path)  # /dev/stdin leads to one of the harmless
    if {path, real} & harmless or os.path.isdir(path) or real.startswith("/proc/"):
        continue
    try:
        opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        pass
if not opened:
    raise PermissionError("kept out")
