# Speaks to the machine that this machine runs on.
# expect: exception
import socket

socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
