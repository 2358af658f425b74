# A text of five megabytes in one line, and a wrong answer after it.
# expect: wrong_answer
# limits: memory=512M
# let TEXT: "x" * 5000000
x = "@TEXT@"

# --- tests ---
assert len(x) == 1
