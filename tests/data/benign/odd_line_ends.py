# A form feed and a line separator inside of a program.
# expect: passed
# let FF: "\f"
# let LS: "\u{2028}"
x = 1@FF@
y = "a@LS@b"

# --- tests ---
assert len(y) == 3
