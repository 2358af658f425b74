# Handles its own signals.
# expect: passed
import os
import signal

seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("usr1"))
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1) if hasattr(signal, "raise_signal") else None

# --- tests ---
assert seen[0] == "usr1"
