# A call of the C library, where the interpreter can.
# expect: passed
try:
    import ctypes
except ImportError:
    ctypes = None

def length(text):
    if ctypes is None:
        return len(text)
    return ctypes.CDLL(None).strlen(text)

# --- tests ---
assert length(b"abc") == 3
