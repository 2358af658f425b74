# Asks the kernel for the machine's networks.
# expect: exception
import socket
import struct

def names():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.settimeout(2)
        kernel.sendto(struct.pack("=IHHIIBxHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0), (0, 0))
        return kernel.recv(1 << 16)

answer = names()
others = answer.count(b"\x03\x00") if b"eth" in answer or b"ens" in answer or b"docker" in answer else 0
if not others:
    raise PermissionError("no network but its own")
