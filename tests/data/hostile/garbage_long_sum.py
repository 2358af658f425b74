# One line of five megabytes, as deep as it is long.
# expect: exception | syntax_error | memory_limit | signal | timeout_cpu
# limits: cpu=3s wall=15s
# let SUM: "1+" * 2500000
x = @SUM@1
raise ValueError
