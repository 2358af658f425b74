# Names, text and normal forms beyond ASCII.
# expect: passed
# entry: größe
def größe(naïve):
    return len(naïve)

ﬁn = 3
assert fin == 3

# --- tests ---
assert größe("日本 🐍") == 4
assert größe("e\u0301") == 2
