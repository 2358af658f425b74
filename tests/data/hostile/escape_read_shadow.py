# Reads the passwords of the system.
# expect: exception
import glob

text = ""
for path in ["/etc/shadow", "/etc/shadow-", "/etc/gshadow", *glob.glob("/etc/ssh/ssh_host_*_key")]:
    try:
        text += open(path).read()
    except OSError:
        pass
if not text:
    raise PermissionError("kept out")
