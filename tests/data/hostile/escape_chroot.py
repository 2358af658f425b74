# The oldest way out of a changed root.
# expect: exception
import os

os.mkdir("inner")
os.chroot("inner")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
open("@SENTINEL@/keep.txt", "w").write("overwritten")
