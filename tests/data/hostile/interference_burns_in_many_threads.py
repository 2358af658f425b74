# Burns its time in many processes beside an honest program.
# expect: timeout_cpu | timeout_wall
# at once: processor_time
# limits: wall=4s
import os

for _ in range(8):
    if os.fork() == 0:
        while True:
            pass
os.wait()
