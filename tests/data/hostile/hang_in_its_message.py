# Its exception works for ever when it is described.
# expect: timeout_cpu
class E(Exception):
    def __str__(self):
        while True:
            pass

raise E
