# Opens again, by /proc, what others hold open.
# expect: exception
import glob
import os

found = []
for path in glob.glob("/proc/[0-9]*/fd/*") + glob.glob("/proc/[0-9]*/task/*/fd/*"):
    if path.split("/")[2] == str(os.getpid()):
        continue
    try:
        target = os.readlink(path)
        if not target.startswith(("pipe:", "/dev/null", "anon_inode", "socket:")):
            os.open(path, os.O_RDONLY)
            found.append(target)
    except OSError:
        pass
if not found:
    raise PermissionError("kept out")
