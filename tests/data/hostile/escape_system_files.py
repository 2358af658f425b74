# Writes where programs of the system lie.
# expect: exception
import os
import sys

done, failure = 0, None
for folder in [os.path.dirname(os.__file__), os.path.dirname(sys.executable), "/usr/lib", "/usr/bin", "/etc", "/lib", "/opt", "/var", "/"]:
    try:
        path = os.path.join(folder, "passk_was_here")
        open(path, "x").close()
        os.unlink(path)
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
