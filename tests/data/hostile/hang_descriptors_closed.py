# Closes everything and sleeps.
# expect: timeout_wall
# limits: wall=2s
import os
import time

os.closerange(0, 4096)
time.sleep(60)
