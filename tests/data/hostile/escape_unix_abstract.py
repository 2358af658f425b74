# Speaks to a service on the machine by its socket's abstract name.
# expect: exception
import socket

with socket.socket(socket.AF_UNIX) as service:
    service.connect("\0@ABSTRACT@")
    service.sendall(b"start a container with / mounted")
