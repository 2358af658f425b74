# Listens to everything on the wire.
# expect: exception
import socket

opened, failure = [], None
for arguments in [
    (getattr(socket, "AF_PACKET", 17), socket.SOCK_RAW, socket.htons(3)),
    (socket.AF_INET, socket.SOCK_RAW, 1),
    (38, socket.SOCK_SEQPACKET, 0),  # AF_ALG: the kernel's ciphers
    (16, socket.SOCK_RAW, 15),  # NETLINK_KOBJECT_UEVENT
    (16, socket.SOCK_RAW, 9),  # NETLINK_AUDIT
    (44, socket.SOCK_RAW, 0),  # AF_XDP
    (30, socket.SOCK_SEQPACKET, 0),  # AF_TIPC
]:
    try:
        opened.append(socket.socket(*arguments))
    except OSError as error:
        failure = error
if not opened:
    raise failure
