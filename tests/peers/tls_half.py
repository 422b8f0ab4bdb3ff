"""CPython's ssl over a blocking socket, one half after the other: tls_half.py PORT CA WHO. Of TLS 1.3 each
half ends alone, which asyncio does not offer. WHO ends first: us or them. Prints what it received."""

import socket
import ssl
import sys

port, ca, who = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_verify_locations(ca)
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
sock = socket.create_connection(("127.0.0.1", int(port)), timeout=30)


def run(action, *arguments):
    while True:
        try:
            result = action(*arguments)
            sock.sendall(outgoing.read())
            return result
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            data = sock.recv(65536)
            incoming.write(data) if data else incoming.write_eof()


def everything():
    """Until the end, which is in good order: any other is an error."""
    received = b""
    try:
        while data := run(tls.read, 65536):
            received += data
    except ssl.SSLZeroReturnError:
        pass
    return received.decode()


run(tls.do_handshake)
if who == "us":
    run(tls.write, b"that is all from me")
    try:
        # Says its half of the goodbye, and would wait for the other one.
        tls.unwrap()
    except ssl.SSLWantReadError:
        sock.sendall(outgoing.read())
    print(everything())
else:
    print(everything())
    run(tls.write, b"but not from me")
    run(tls.unwrap)
sock.close()
