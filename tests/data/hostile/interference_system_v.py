# Two at once look for each other in queues, semaphores and memory of the older kind.
# expect: exception
# at once: itself
import ctypes
import errno
import time

libc = ctypes.CDLL(None, use_errno=True)
KEY, CREATE = 0x7061737C, 0o1000 | 0o2000 | 0o600
met, made = False, []
for get, remove, arguments in [
    (libc.shmget, lambda i: libc.shmctl(i, 0, None), (KEY, 4096, CREATE)),
    (libc.msgget, lambda i: libc.msgctl(i, 0, None), (KEY, CREATE)),
    (libc.semget, lambda i: libc.semctl(i, 0, 0), (KEY, 1, CREATE)),
]:
    number = get(*arguments)
    if number >= 0:
        made.append((remove, number))
    elif ctypes.get_errno() == errno.EEXIST:
        met = True
time.sleep(0.6)
for remove, number in made:
    remove(number)
if not met:
    raise RuntimeError("alone")
