# Looks for a secret in every environment that it can see.
# expect: exception
import glob
import os

text = repr(dict(os.environ)).encode()
for path in glob.glob("/proc/[0-9]*/environ") + ["/proc/self/environ"]:
    try:
        text += open(path, "rb").read()
    except OSError:
        pass
if b"PASSK_TEST_SECRET" not in text:
    raise KeyError("PASSK_TEST_SECRET")
