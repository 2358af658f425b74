# Waits for itself.
# expect: timeout_wall
# limits: wall=2s
import threading

lock = threading.Lock()
lock.acquire()
lock.acquire()
