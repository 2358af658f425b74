# Opens a door for others: a listener that whoever is outside could reach.
# expect: exception
import socket

with socket.socket() as door:
    door.bind(("127.0.0.1", 0))
    door.listen()
raise SystemExit("a door to nowhere, in a network of its own")
