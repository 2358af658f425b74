# A sign before a sign before a sign.
# expect: exception | syntax_error | memory_limit | signal
# let SIGNS: "-" * 100000
x = @SIGNS@1
raise ValueError
