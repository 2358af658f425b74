# Works for ever in one call that Python cannot interrupt.
# expect: timeout_cpu
sum(range(10**12))
