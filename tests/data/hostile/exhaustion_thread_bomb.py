# Starts threads without end.
# expect: process_limit
import threading
import time

threading.stack_size(65536)
for _ in range(400):
    threading.Thread(target=time.sleep, args=(5,)).start()
time.sleep(5)
