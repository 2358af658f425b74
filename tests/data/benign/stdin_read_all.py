# Reads all at once, and prints without a line end.
# expect: passed
import sys

words = sys.stdin.read().split()
sys.stdout.write(" ".join(reversed(words)))

# --- input ---
a b
c
# --- output ---
c b a
