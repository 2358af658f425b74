# A recursion without end.
# expect: exception
def f():
    return f()

f()
