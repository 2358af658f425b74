# A text before the imports.
# expect: passed
# --- candidate ---
"""What this is."""
import math

# --- tests ---
assert __doc__ == "What this is."
assert math.floor(1.5) == 1
