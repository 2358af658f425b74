# Removes, renames, truncates, touches and marks a file of others.
# expect: exception
import os
import shutil

keep, failure = "@SENTINEL@/keep.txt", None
ways = [
    lambda: os.truncate(keep, 0),
    lambda: os.chmod(keep, 0),
    lambda: os.utime(keep, (1, 1)),
    lambda: os.setxattr(keep, "user.mark", b"x"),
    lambda: os.rename(keep, keep + ".old"),
    lambda: os.unlink(keep),
    lambda: shutil.rmtree("@SENTINEL@"),
    lambda: os.rename("@SENTINEL@", "@SENTINEL@.old"),
]
for way in ways:
    try:
        way()
        break
    except OSError as error:
        failure = error
else:
    raise failure
