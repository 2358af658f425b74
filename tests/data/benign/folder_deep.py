# Leaves folders in folders in folders.
# expect: passed
import os

top = os.getcwd()
for _ in range(300):
    os.mkdir("d" * 20)
    os.chdir("d" * 20)
os.chdir(top)

# --- tests ---
assert os.listdir() == ["d" * 20]
