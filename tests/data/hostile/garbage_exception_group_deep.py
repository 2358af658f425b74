# A chain of causes without end.
# expect: exception | signal | memory_limit
error = ValueError()
for _ in range(100_000):
    following = ValueError()
    following.__cause__ = following.__context__ = error
    error = following
raise error
