# Climbs out of its folder.
# expect: exception
import os

done, failure = 0, None
for climb in range(1, 24):
    try:
        open("../" * climb + "@SENTINEL@/keep.txt".lstrip("/"), "w").write("overwritten")
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
