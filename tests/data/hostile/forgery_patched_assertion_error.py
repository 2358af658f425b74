# Patches the exception that a failed assert raises.
# expect: wrong_answer | exception
import builtins

class E(Exception):
    pass

builtins.AssertionError = E

# --- tests ---
assert False
