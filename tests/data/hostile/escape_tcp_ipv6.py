# Calls home by the other protocol.
# expect: exception
import socket

with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as home:
    home.settimeout(2)
    home.connect(("::ffff:127.0.0.1", int("@TCP@")))
    home.sendall(b"here is what I found")
