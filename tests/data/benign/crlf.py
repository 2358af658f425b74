# Line ends of another system.
# expect: passed
# entry: f
# let CR: "\r"
def f(x):@CR@
    if x:@CR@
        return """a@CR@
b"""@CR@
    return 1@CR@

# --- tests ---
assert f(0) == 1
assert f(1) == "a\nb"
