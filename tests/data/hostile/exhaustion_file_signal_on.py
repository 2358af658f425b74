# Writes one file without end, and leaves the kernel's signal as it was.
# expect: output_limit
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("a", "wb") as file:
    for _ in range(40_000):
        file.write(b"x" * 65536)
