# Works for ever.
# expect: timeout_cpu
while True:
    pass
