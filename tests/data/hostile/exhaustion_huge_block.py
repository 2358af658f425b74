# Asks for more memory than there is.
# expect: memory_limit
bytearray(1 << 40)
