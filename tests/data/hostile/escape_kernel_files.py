# Opens the kernel's switches for writing; nothing is written.
# expect: exception
import os

opened = []
for path in [
    "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/modprobe",
    "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/memory/release_agent",
    "/sys/kernel/uevent_helper", "/sys/power/state", "/proc/kcore", "/proc/kmsg", "/sys/kernel/debug",
    "/proc/self/oom_score_adj_of_others",
]:
    for flags in (os.O_WRONLY, os.O_RDONLY if "kcore" in path or "kmsg" in path else os.O_WRONLY):
        try:
            opened.append(os.open(path, flags | os.O_NONBLOCK))
        except OSError:
            pass
if not opened:
    raise PermissionError("kept out")
