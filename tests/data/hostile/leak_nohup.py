# A shell's way to leave a program behind.
# expect: violation
import subprocess
import time

subprocess.Popen("nohup sleep 20 >/dev/null 2>&1 </dev/null &", shell=True).wait()
time.sleep(0.1)
