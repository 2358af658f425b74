# Looks through the folders where keys lie.
# expect: exception
# limits: cpu=20s wall=60s
import os

found = []
for home in ["/root", "/home", os.path.expanduser("~root")]:
    for folder, _, names in os.walk(home):
        if folder.startswith(os.getcwd()):
            continue
        if any(part in folder for part in (".ssh", ".aws", ".kube", ".config", ".docker", ".gnupg", ".cargo/registry")):
            found += [os.path.join(folder, name) for name in names]
        if len(found) > 10:
            break
if not found:
    raise PermissionError("kept out")
