# Uses a program that runs as root whoever starts it.
# expect: exception
import os
import subprocess

got = b""
for command in [["su", "-c", "cat /etc/shadow @SECRET@"], ["sudo", "-n", "cat", "/etc/shadow", "@SECRET@"], ["pkexec", "cat", "/etc/shadow"], ["mount"], ["newgrp"]]:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=2)
        got += done.stdout
    except (OSError, subprocess.SubprocessError):
        pass
if b"root:" not in got and os.path.basename("@SECRET@").encode() not in got and b"planted" not in got:
    raise PermissionError("kept out")
