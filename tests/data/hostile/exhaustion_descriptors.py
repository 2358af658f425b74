# Opens until it is refused, and says so.
# expect: exception
import os

held = [os.open("/dev/null", os.O_RDONLY) for _ in range(200_000)]
