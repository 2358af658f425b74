# A body without its head.
# expect: syntax_error
return 1
