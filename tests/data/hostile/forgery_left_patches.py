# Patches the library for the next sample.
# expect: wrong_answer
import builtins
import json
import math
import os
import sys

json.dumps = math.sqrt = builtins.abs = builtins.len = lambda *_, **__: "left"
os.environ["LEFT"] = "left"
sys.modules["left"] = json
sys.setrecursionlimit(100_000)

# --- tests ---
assert False
