# Finds the world as it was made: run after every hostile program.
# expect: passed
import builtins
import json
import math
import os
import sys

# --- tests ---
assert os.listdir() == [], os.listdir()
assert json.dumps([1]) == "[1]" and json.loads("[2]") == [2]
assert math.sqrt(4) == 2 and abs(-1) == 1 and builtins.len is len
assert not any(name in sys.modules for name in ("sitecustomize_left", "usercustomize", "left"))
assert os.environ.get("LEFT") is None
assert sys.gettrace() is None and sys.getprofile() is None
assert sys.getrecursionlimit() <= 3000, sys.getrecursionlimit()
assert sorted(x * x for x in range(4)) == [0, 1, 4, 9]
