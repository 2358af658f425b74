# Takes a file of others into its own folder.
# expect: exception
import os

done, failure = 0, None
for source in ["@SENTINEL@/keep.txt", "@SECRET@", "/etc/passwd", "/etc/shadow"]:
    try:
        os.link(source, f"taken{done}")
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
