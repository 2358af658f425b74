# Patches whatever a report might be written with.
# expect: wrong_answer
import builtins

for name in ("str", "type", "isinstance", "issubclass", "BaseException", "print", "len", "repr"):
    setattr(builtins, name, None)

# --- tests ---
assert False
