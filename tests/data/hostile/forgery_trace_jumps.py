# Jumps over the asserts as a debugger would.
# expect: disputed | wrong_answer | exception
# expect whole: passed | wrong_answer | exception
# entry: f
import sys

def tracer(frame, event, arg):
    if frame.f_code.co_name == "check" and event == "line":
        last = max(line for _, _, line in frame.f_code.co_lines() if line)
        if frame.f_lineno < last:
            sys.settrace(None)
            try:
                frame.f_lineno = last
            except ValueError:
                pass
    return tracer

sys.settrace(tracer)

def f(x):
    return 0

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    assert candidate(2) == 3
    return None

check(f)
