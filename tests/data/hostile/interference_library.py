# Patches the library while an honest program uses it.
# expect: wrong_answer
# at once: standard_library
import json
import math
import re
import time

json.dumps = json.loads = math.sqrt = re.findall = lambda *_: "patched"
time.sleep(0.3)

# --- tests ---
assert False
