"""CPython's ssl over a blocking socket, which says one thing and is gone: tls_gone.py PORT CA TIMES."""

import socket
import ssl
import sys

port, ca, times = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(ca)
for _ in range(int(times)):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
        tls = context.wrap_socket(sock, server_hostname="localhost")
        tls.sendall(b"the whole message")
        tls.setblocking(False)
        try:
            # Sends its half of the goodbye, and does not wait for the other one.
            tls.unwrap()
        except ssl.SSLError:
            pass
        tls.close()
