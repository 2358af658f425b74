# A hundred thousand parentheses.
# expect: syntax_error | memory_limit
# let OPEN: "(" * 100000
# let CLOSE: ")" * 100000
x = @OPEN@@CLOSE@
