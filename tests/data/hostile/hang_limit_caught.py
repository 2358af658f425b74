# Catches the kernel's word that its time is up, and ends well after it.
# expect: timeout_cpu
import signal

def late(*_):
    raise ValueError

signal.signal(signal.SIGXCPU, late)
try:
    while True:
        pass
except ValueError:
    pass
