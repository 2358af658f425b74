# Waits for a line that nobody types.
# expect: exception
input()
