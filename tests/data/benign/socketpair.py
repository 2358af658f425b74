# Two ends of its own.
# expect: passed
import socket

a, b = socket.socketpair()
a.sendall(b"x")

# --- tests ---
assert b.recv(1) == b"x"
