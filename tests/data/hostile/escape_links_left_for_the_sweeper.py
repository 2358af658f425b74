# Leaves links where the harness will remove things, and goes.
# expect: early_exit
import os

os.symlink("@SENTINEL@", "a")
os.makedirs("b/c")
os.symlink("@SENTINEL@/keep.txt", "b/c/d")
os.symlink("@SENTINEL@", "b/e")
os.chmod("b/c", 0)
os._exit(0)
