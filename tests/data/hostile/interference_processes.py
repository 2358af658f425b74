# Two at once look for each other among the processes.
# expect: exception
# at once: itself
import ctypes
import os
import sys
import time

ctypes.CDLL(None).prctl(15, b"passk-meet", 0, 0, 0)
until, met = time.time() + 0.6, False
while time.time() < until:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                met = met or open(f"/proc/{name}/comm").read().strip() == "passk-meet"
            except OSError:
                pass
    time.sleep(0.02)
if not met:
    raise RuntimeError("alone")
