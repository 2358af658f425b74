# A million lines, and a wrong answer after them.
# expect: wrong_answer | memory_limit | timeout_cpu | timeout_wall
# limits: cpu=3s wall=15s memory=512M
# let LINES: "x = 1\n" * 300000
@LINES@

# --- tests ---
assert x == 2
