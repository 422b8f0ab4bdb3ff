"""Many clients of an echo server in one process, told what to do on stdin.

usage: crowd.py HOST PORT

"open N": opens N more connections, each is used once; answers "opened".
"echo": each says its number, all before the first one listens; answers "echoed".
"close": closes all; answers "closed".
"""

import resource
import socket
import sys

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

address = sys.argv[1], int(sys.argv[2])
crowd = []


def receive(client, expected):
    echoed = b""
    while len(echoed) < len(expected):
        piece = client.recv(len(expected) - len(echoed))
        assert piece, "the server closed a connection"
        echoed += piece
    assert echoed == expected, echoed


for line in sys.stdin:
    command, *arguments = line.split()
    if command == "open":
        for _ in range(int(arguments[0])):
            client = socket.create_connection(address, timeout=30)
            crowd.append(client)
            client.sendall(b"hello")
            receive(client, b"hello")
        print("opened", flush=True)
    elif command == "echo":
        numbers = [b"%08d" % i for i in range(len(crowd))]
        for client, number in zip(crowd, numbers):
            client.sendall(number)
        for client, number in zip(crowd, numbers):
            receive(client, number)
        print("echoed", flush=True)
    else:
        for client in crowd:
            client.close()
        crowd.clear()
        print("closed", flush=True)
