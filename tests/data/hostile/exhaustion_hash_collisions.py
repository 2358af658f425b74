# A dict in which all keys fall together.
# expect: timeout_cpu
class Key:
    def __hash__(self):
        return 1

d = {}
for _ in range(1_000_000):
    d[Key()] = 1
