# Looks at its own frames and lines.
# expect: passed
import inspect
import sys
import traceback

seen = []

def tracer(frame, event, arg):
    seen.append(event)
    return tracer

def traced():
    return 1

def run():
    sys.settrace(tracer)
    try:
        return traced()
    finally:
        sys.settrace(None)

# --- tests ---
assert run() == 1 and "call" in seen
assert inspect.currentframe() is not None
try:
    1 / 0
except ZeroDivisionError:
    assert "ZeroDivisionError" in traceback.format_exc()
