# A cookie that says otherwise means nothing in a text that is decoded already.
# expect: passed
# --- candidate ---
# coding: latin-1
s = "é"

# --- tests ---
assert len(s) == 1
