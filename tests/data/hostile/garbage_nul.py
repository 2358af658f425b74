# A byte that no text has.
# expect: syntax_error
# let NUL: "\0"
x = 1@NUL@
