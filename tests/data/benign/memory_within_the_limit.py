# A block that is large, and allowed.
# expect: passed
# limits: memory=512M
block = bytearray(200 << 20)

# --- tests ---
assert len(block) == 200 << 20
