# Waits on descriptors.
# expect: passed
import os
import select
import selectors

r, w = os.pipe()
before = select.select([r], [], [], 0.01)[0]
os.write(w, b"x")
with selectors.DefaultSelector() as selector:
    selector.register(r, selectors.EVENT_READ)
    after = len(selector.select(5))

# --- tests ---
assert (before, after) == ([], 1)
