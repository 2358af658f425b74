# Swaps folders for links for as long as somebody removes them.
# expect: violation | early_exit | exception | process_limit
import os
import time

os.mkdir("real")
os.mkdir("real/inside")
if os.fork() == 0:
    until = time.time() + 3
    while time.time() < until:
        try:
            os.rename("real", "moved")
            os.symlink("@SENTINEL@", "real")
            os.unlink("real")
            os.rename("moved", "real")
        except OSError:
            pass
    os._exit(0)
time.sleep(0.05)
os._exit(0)
