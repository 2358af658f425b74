# Removes, renames, truncates, touches and marks a file of others.
# expect: exception
import os
import shutil

keep, failure = "@SENTINEL@/keep.txt", None


def changed(act, value):
    """A call may say that it was done and do nothing."""
    before = os.stat(keep)
    act(keep, value)
    if os.stat(keep) == before:
        raise OSError("without effect")


ways = [
    lambda: os.truncate(keep, 0),
    lambda: changed(os.chmod, 0),
    lambda: changed(os.utime, (1, 1)),
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
