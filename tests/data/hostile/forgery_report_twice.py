# Reports a pass by the nonce in a frame, and lets the runner report as well.
# expect: violation | wrong_answer | disputed
# expect whole: violation | wrong_answer | passed
import os
import sys

frame = sys._getframe()
while frame:
    for value in list(frame.f_locals.values()):
        if isinstance(value, bytes) and len(value) == 32:
            try:
                os.write(3, value + b" passed \n")
            except OSError:
                pass
    frame = frame.f_back

# --- tests ---
assert False
