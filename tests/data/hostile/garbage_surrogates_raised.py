# Raises what no text may hold.
# expect: exception
raise ValueError("\ud800 ä \x00 \n\n 日本")
