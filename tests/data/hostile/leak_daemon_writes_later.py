# A daemon that waits until everyone has gone.
# expect: violation
import os
import time

if os.fork() == 0:
    try:
        os.setsid()
    except OSError:
        pass
    if os.fork() == 0:
        os.closerange(0, 4096)
        for _ in range(20):
            time.sleep(0.5)
            try:
                open("@SENTINEL@/keep.txt", "w").write("overwritten")
                open("left", "w").write("x")
            except OSError:
                pass
    os._exit(0)
os.wait()
time.sleep(0.1)
