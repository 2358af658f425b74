# Takes over what is done with an uncaught exception.
# expect: wrong_answer
import os
import sys
import threading

sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *_: os._exit(0)

# --- tests ---
assert False
