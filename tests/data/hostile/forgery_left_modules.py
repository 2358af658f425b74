# Leaves modules for the next sample, in every folder that an interpreter looks into.
# expect: early_exit
import os
import site
import sys

folders = [".", os.path.expanduser("~"), os.environ.get("TMPDIR", "/tmp"), "/tmp", "/dev/shm", *sys.path]
try:
    folders += site.getsitepackages() + [site.getusersitepackages()]
except AttributeError:
    pass
for folder in folders:
    for name in ("sitecustomize.py", "usercustomize.py", "json.py", "left.pth", "builtins.py", "random.py"):
        try:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, name), "w") as file:
                file.write("import os; os._exit(0)\n")
        except OSError:
            pass
os._exit(0)

# --- tests ---
assert False
