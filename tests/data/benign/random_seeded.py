# The same numbers each time.
# expect: passed
import random

drawn = [random.randrange(100) for _ in range(3)]

# --- tests ---
assert drawn == [49, 97, 53], drawn
