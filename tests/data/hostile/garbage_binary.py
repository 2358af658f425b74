# Bytes of a program for machines.
# expect: syntax_error
# let ELF: "\x7fELF\x02\x01\x01\0\0\0\0\0\x03\0\x3e\0\x01"
# --- candidate ---
@ELF@
