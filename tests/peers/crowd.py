"""Many clients of an echo server in one process, told what to do on stdin.

usage: crowd.py HOST PORT

"open N": opens N more connections, each is used once; answers "opened".
"close": closes all; answers "closed".
"""

import resource
import socket
import sys

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

address = sys.argv[1], int(sys.argv[2])
crowd = []
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "open":
        for _ in range(int(arguments[0])):
            client = socket.create_connection(address, timeout=30)
            crowd.append(client)
            client.sendall(b"hello")
            echoed = b""
            while len(echoed) < 5:
                piece = client.recv(5 - len(echoed))
                assert piece, "the server closed a connection"
                echoed += piece
            assert echoed == b"hello", echoed
        print("opened", flush=True)
    else:
        for client in crowd:
            client.close()
        crowd.clear()
        print("closed", flush=True)
