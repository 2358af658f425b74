# Writes answers to questions that nobody asked, on every descriptor, when it is called.
# expect: disputed | violation | wrong_answer
# entry: f
import os

def f(x):
    for fd in range(3, 64):
        try:
            os.write(fd, b"\x01\x00\x00\x00\x02" * 20)
            os.write(fd, b'{"result": 2}\n[2]\n2\n' * 20)
        except OSError:
            pass
    return 2

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    assert candidate(5) == 6

check(f)
