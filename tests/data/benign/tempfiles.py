# Temporary files and folders.
# expect: passed
import os
import tempfile

with tempfile.NamedTemporaryFile("w+") as file:
    file.write("x")
    file.flush()
    again = open(file.name).read()
with tempfile.TemporaryDirectory() as folder:
    open(os.path.join(folder, "a"), "w").close()
    inside = os.listdir(folder)
with tempfile.TemporaryFile() as nameless:
    nameless.write(b"y" * 100_000)

# --- tests ---
assert again == "x" and inside == ["a"]
assert not os.path.exists(folder)
