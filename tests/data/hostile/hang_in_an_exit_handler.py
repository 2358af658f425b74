# Never comes to its end: a handler works on, though the tests were passed.
# expect: timeout_wall | early_exit | violation | passed
# limits: wall=3s
import atexit
import time

atexit.register(time.sleep, 60)
