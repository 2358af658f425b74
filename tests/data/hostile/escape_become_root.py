# Asks for rights that it was not given.
# expect: exception
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
before = (os.getresuid(), os.getresgid(), os.getgroups())
for way in [lambda: os.setresuid(0, 0, 0), lambda: os.setresgid(0, 0, 0), lambda: os.setgroups([0, 4, 6])]:
    try:
        way()
    except OSError:
        pass
# Rights in a user namespace of its own are none: what counts is what can be done with them.
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
libc.capset(header, data)
done = 0
for attempt in [lambda: open("@SENTINEL@/keep.txt", "w"), lambda: open("/etc/shadow"), lambda: os.chroot("/"), lambda: os.mknod("disk", 0o60600, os.makedev(254, 0))]:
    try:
        attempt()
        done += 1
    except OSError as error:
        failure = error
if not done:
    raise failure
