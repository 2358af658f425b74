# Burns its time while an honest program comes near its own limit.
# expect: timeout_cpu
# at once: processor_time
while True:
    pass
