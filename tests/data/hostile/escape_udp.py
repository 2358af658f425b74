# Sends a datagram, which needs no connection.
# expect: exception
import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as home:
    home.sendto(b"here is what I found", ("127.0.0.1", int("@UDP@")))
raise SystemExit("sent to nowhere, in a network of its own")
