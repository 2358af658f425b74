# An exception with a message of a hundred megabytes.
# expect: exception | memory_limit
# limits: memory=512M
raise ValueError("x" * (100 << 20))
