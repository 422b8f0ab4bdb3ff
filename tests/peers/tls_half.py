"""CPython's ssl over a blocking socket, one half after the other: tls_half.py PORT CA WHO. Of TLS 1.3 each
half ends alone, which asyncio does not offer. WHO ends first: us or them. Prints what it received."""

import select
import socket
import ssl
import sys

port, ca, who = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_verify_locations(ca)


def everything(tls):
    received = b""
    while True:
        try:
            data = tls.recv(65536)
        except ssl.SSLWantReadError:
            select.select([tls], [], [], 30)
            continue
        except ssl.SSLZeroReturnError:
            # How an end in good order is told to those who have said theirs.
            data = b""
        if not data:
            return received
        received += data


with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
    tls = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
    if who == "us":
        tls.sendall(b"that is all from me")
        tls.setblocking(False)
        try:
            # Sends its half of the goodbye, and would wait for the other one.
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        print(everything(tls).decode())
    else:
        print(everything(tls).decode())
        tls.sendall(b"but not from me")
        tls.unwrap()
