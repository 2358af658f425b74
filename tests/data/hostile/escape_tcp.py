# Calls home.
# expect: exception
import socket

with socket.create_connection(("127.0.0.1", int("@TCP@")), timeout=2) as home:
    home.sendall(b"here is what I found")
