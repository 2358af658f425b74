# Reaches outside by links in its own folder.
# expect: exception
import os

os.symlink("@SENTINEL@", "way")
os.symlink("@SENTINEL@/keep.txt", "file")
done, failure = 0, None
for path in ["file", "way/keep.txt", "way/new.txt"]:
    try:
        open(path, "w").write("overwritten")
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
