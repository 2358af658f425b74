# Folders in folders, deeper than anyone can walk.
# expect: early_exit | exception | output_limit | timeout_cpu
# limits: wall=20s
import os

for _ in range(20_000):
    os.mkdir("d")
    os.chdir("d")
os._exit(0)
