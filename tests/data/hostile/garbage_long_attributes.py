# A hundred thousand dots.
# expect: exception | syntax_error | memory_limit | signal
# let DOTS: ".a" * 100000
x = 1@DOTS@
