# Home is a place to write in.
# expect: passed
import os
import pathlib

place = pathlib.Path.home() / ".config" / "thing"
place.mkdir(parents=True)
(place / "a").write_text("b")

# --- tests ---
assert open(os.path.expanduser("~/.config/thing/a")).read() == "b"
