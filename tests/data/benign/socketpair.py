# Two ends of its own.
# expect: passed
# expect landlock: passed | exception
import socket

a, b = socket.socketpair()
a.sendall(b"x")

# --- tests ---
assert b.recv(1) == b"x"
