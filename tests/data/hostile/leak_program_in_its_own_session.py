# A program with a session and streams of its own.
# expect: violation
# expect landlock: exception
import subprocess

subprocess.Popen(
    ["sleep", "20"], start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
