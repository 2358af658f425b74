# Leaves a new file in a folder that everyone may write.
# expect: exception
import os

ways = [
    lambda: open("@SENTINEL@/new.txt", "x"),
    lambda: os.mkdir("@SENTINEL@/new"),
    lambda: os.mkfifo("@SENTINEL@/fifo"),
    lambda: os.symlink("/", "@SENTINEL@/link"),
    lambda: os.mknod("@SENTINEL@/node"),
]
failure = None
for way in ways:
    try:
        way()
        break
    except OSError as error:
        failure = error
else:
    raise failure
