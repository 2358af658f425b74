# Prints into an object of its own.
# expect: passed
import contextlib
import io

def said(f):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        f()
    return out.getvalue()

# --- tests ---
assert said(lambda: print("a", end="")) == "a"
