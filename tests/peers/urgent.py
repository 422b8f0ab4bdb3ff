"""Sends abc, an urgent byte and def in one go, then nothing until its standard input ends."""

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.send(b"abc")
    sock.send(b"!", socket.MSG_OOB)
    sock.send(b"def")
    print("sent abc!def", flush=True)
    sys.stdin.read()
