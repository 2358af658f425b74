# A number printed in a time that grows with its square.
# expect: timeout_cpu | exception
import sys

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
len(str(7 ** 2_000_000))
len(str(7 ** 6_000_000))
raise ValueError("too fast")
