# A hundred thousand brackets that are never closed.
# expect: syntax_error | memory_limit
# let OPEN: "[" * 100000
x = @OPEN@
