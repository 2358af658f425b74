# Writes, reads, lists and removes.
# expect: passed
import os
import pathlib
import shutil

os.makedirs("a/b")
pathlib.Path("a/b/c").write_text("x")
shutil.copy("a/b/c", "d")
os.symlink("d", "e")
os.link("d", "f")
os.rename("f", "g")

# --- tests ---
assert open("e").read() == open("g").read() == "x"
assert sorted(os.listdir()) == ["a", "d", "e", "g"], os.listdir()
shutil.rmtree("a")
assert not os.path.exists("a")
