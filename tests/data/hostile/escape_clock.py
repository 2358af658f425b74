# Sets the clock, to what it is.
# expect: exception
import time

time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
