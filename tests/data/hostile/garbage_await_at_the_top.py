# A wait where there is nothing to wait in.
# expect: syntax_error
await something
