# Looks for the nonce in its own memory, byte by byte.
# expect: violation | early_exit | wrong_answer | exception | disputed
# expect whole: violation | early_exit | wrong_answer | exception | passed
# limits: cpu=3s wall=10s
import os
import re

found = set()
try:
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in open("/proc/self/maps"):
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                try:
                    memory.seek(start)
                    text = memory.read(min(end - start, 8 << 20))
                except (OSError, ValueError, OverflowError):
                    continue
                found.update(re.findall(rb"\b[0-9a-f]{32}\b", text)[:50])
except OSError:
    pass
for nonce in list(found)[:2000]:
    for fd in (3, 4, 5, 6):
        try:
            os.write(fd, nonce + b" passed \n")
        except OSError:
            pass
os._exit(0)

# --- tests ---
assert False
