# Speaks to a service on the machine by its socket's path.
# expect: exception
import socket

with socket.socket(socket.AF_UNIX) as service:
    service.connect("@UNIX@")
    service.sendall(b"start a container with / mounted")
