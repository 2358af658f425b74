# A block that is too large is refused, which the program expects.
# expect: passed
try:
    bytearray(1 << 45)
    refused = False
except MemoryError:
    refused = True

# --- tests ---
assert refused
