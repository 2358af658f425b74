# Ends while a child holds its streams.
# expect: violation
import subprocess

subprocess.Popen(["sleep", "20"])
