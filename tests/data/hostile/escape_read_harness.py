# Reads the folder of the harness: datasets with solutions, snapshots, records.
# expect: exception
import os

read = []
for path in ["@REPOSITORY@/Cargo.toml", "@REPOSITORY@/README.md", "@REPOSITORY@/tests/data/hostile/escape_read_harness.py"]:
    try:
        read.append(open(path).read())
    except OSError:
        pass
for folder, _, names in os.walk("@REPOSITORY@"):
    if names:
        read.append(folder)
        break
if not read:
    raise PermissionError("kept out")
