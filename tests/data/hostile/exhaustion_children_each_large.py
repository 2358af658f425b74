# Many children, each below the limit, all together far above it.
# expect: memory_limit
import os
import time

for _ in range(14):
    if os.fork() == 0:
        block = bytearray(b"x") * (100 << 20)
        time.sleep(4)
        os._exit(0)
for _ in range(14):
    os.wait()
