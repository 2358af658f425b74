# Text in a code that hides quotes; what it says it is coded in means nothing.
# expect: syntax_error
# --- candidate ---
# coding: utf-7
+AHAAcgBpAG4AdA-(1
