# Goes through the doors that /proc opens to a process: root, cwd, memory, descriptors.
# expect: exception
import glob
import os

found = []
for process in glob.glob("/proc/[0-9]*"):
    for keep in [process + "/root@SENTINEL@/keep.txt", process + "/cwd/Cargo.toml"]:
        try:
            found.append(open(keep).read())
        except OSError:
            pass
    pid = int(process.split("/")[-1])
    if pid in (os.getpid(), 1):
        continue
    try:
        found.append(open(process + "/mem", "rb"))
    except OSError:
        pass
for way in ["/proc/self/root/..@SENTINEL@", "/proc/1/root@SENTINEL@", "/proc/thread-self/root/../..@SENTINEL@"]:
    try:
        found.append(os.listdir(way))
    except OSError:
        pass
if not found:
    raise PermissionError("kept out")
