# Closes everything and ends.
# expect: early_exit
import os

os.closerange(0, 4096)
