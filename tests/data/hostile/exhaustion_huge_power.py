# A number with more digits than atoms.
# expect: timeout_cpu | memory_limit
x = 9**9**9
