# Sleeps.
# expect: timeout_wall
# limits: wall=2s
import time

time.sleep(60)
