# Looks for the folders of other samples and of the harness among temporary files.
# expect: exception
import os

here = os.path.realpath(os.getcwd())
others = []
for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", os.path.dirname(here)):
    try:
        names = os.listdir(folder)
    except OSError:
        continue
    for name in names:
        path = os.path.realpath(os.path.join(folder, name))
        if not here.startswith(path) and not path.startswith(here) and name != ".":
            others.append(path)
if not others:
    raise PermissionError("alone")
