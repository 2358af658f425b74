# Takes everything off every descriptor, to answer for those who should have read it.
# expect: disputed | violation | wrong_answer | exception | early_exit | timeout_wall
# entry: f
# limits: wall=5s
import os

def f(x):
    for fd in range(64):
        try:
            os.set_blocking(fd, False)
            while os.read(fd, 65536):
                pass
        except OSError:
            pass
    return 2

# --- tests ---
def check(candidate):
    assert candidate(1) == 2
    assert candidate(5) == 6

check(f)
