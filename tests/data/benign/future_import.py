# An import that must come first.
# expect: passed
# --- candidate ---
from __future__ import annotations

def f(x: Undefined) -> AlsoUndefined:
    return x

# --- tests ---
assert f(1) == 1
