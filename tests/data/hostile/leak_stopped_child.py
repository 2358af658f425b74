# A child that is stopped, and so ignores every polite word.
# expect: violation
import os
import signal
import time

pid = os.fork()
if pid == 0:
    os.closerange(0, 4096)
    while True:
        time.sleep(20)
os.kill(pid, signal.SIGSTOP)
