# Changes the verdict in the frame of the runner.
# expect: wrong_answer | disputed
# expect whole: wrong_answer | passed
import ctypes
import sys

frame = sys._getframe(1)
while frame:
    if "verdict" in frame.f_locals:
        frame.f_locals["verdict"] = b"passed"
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
    frame = frame.f_back

# --- tests ---
assert False
