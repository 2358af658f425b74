# Reads what other programs of the machine were started with.
# expect: exception
import glob

text = b""
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        text += open(path, "rb").read()
    except OSError:
        pass
if b"passk-sentinel-argument" not in text:
    raise PermissionError("kept out")
