# Tries every descriptor that was left open by mistake.
# expect: exception
import os
import stat

found = []
for fd in range(3, 4096):
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        continue
    if stat.S_ISDIR(mode):
        try:
            found.append(os.open("..", os.O_RDONLY, dir_fd=fd))
        except OSError:
            pass
    elif stat.S_ISREG(mode):
        found.append(fd)
if not found:
    raise PermissionError("nothing was left open")
