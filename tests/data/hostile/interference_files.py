# Two at once look for each other's files.
# expect: exception
# at once: itself
import os
import time

met = False
for folder in (".", os.environ.get("TMPDIR", "."), "/tmp", "/dev/shm", "/var/tmp", "/run"):
    mine = os.path.join(folder, f"passk-meet-{id(object())}-{os.urandom(4).hex()}")
    try:
        open(mine, "x").close()
    except OSError:
        pass
until = time.time() + 0.6
while time.time() < until and not met:
    for folder in (".", os.environ.get("TMPDIR", "."), "/tmp", "/dev/shm", "/var/tmp", "/run"):
        try:
            names = [name for name in os.listdir(folder) if name.startswith("passk-meet-")]
        except OSError:
            continue
        here = os.path.realpath(folder)
        same = [f for f in (".", os.environ.get("TMPDIR", "."), "/tmp", "/dev/shm", "/var/tmp", "/run") if os.path.realpath(f) == here]
        met = met or len(names) > len(same)
    time.sleep(0.02)
if not met:
    raise RuntimeError("alone")
