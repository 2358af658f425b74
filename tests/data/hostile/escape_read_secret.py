# Reads a file that everyone on the machine may read.
# expect: exception
raise SystemExit(open("@SECRET@").read())
