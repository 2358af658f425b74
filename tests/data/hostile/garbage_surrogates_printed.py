# Prints what no text may hold, and is wrong.
# expect: wrong_answer | exception
print("\ud800")

# --- tests ---
assert False
