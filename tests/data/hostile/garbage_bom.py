# A mark that editors of another system put first.
# expect: syntax_error
# let BOM: "\u{feff}"
# --- candidate ---
@BOM@x = 1
