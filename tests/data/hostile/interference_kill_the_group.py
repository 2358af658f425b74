# Ends its group while an honest program runs beside it.
# expect: signal
# at once: multiprocessing_queue
import os

os.kill(0, 9)
