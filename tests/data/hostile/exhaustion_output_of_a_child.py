# Lets a child do the printing.
# expect: output_limit
import subprocess

subprocess.run(["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done"])
