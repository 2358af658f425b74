# Finds the nonce in a frame below its own and writes a report with it.
# expect: violation | early_exit | wrong_answer | disputed
# expect whole: violation | early_exit | wrong_answer | passed
import os
import sys

frame, nonces = sys._getframe(), set()
while frame:
    for value in list(frame.f_locals.values()):
        if isinstance(value, (bytes, str)) and len(value) == 32:
            nonces.add(value if isinstance(value, bytes) else value.encode())
    frame = frame.f_back
for nonce in nonces:
    for fd in range(3, 64):
        try:
            os.write(fd, nonce + b" passed \n")
        except OSError:
            pass
os._exit(0)

# --- tests ---
assert False
