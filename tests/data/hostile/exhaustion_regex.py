# A pattern that tries everything.
# expect: timeout_cpu
import re

re.match(r"(a+)+$", "a" * 60 + "b")
