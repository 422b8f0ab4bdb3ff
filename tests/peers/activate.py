"""Opens sockets, and becomes a program that inherits them, as sd_listen_fds(3) describes it.

    activate.py WHAT... -- PROGRAM ARGUMENT...

Each WHAT is `tcp`, `udp`, `file`, `connected`, `unbound`, `unbound-unix`, `nothing`, or the path of
a unix socket, or `again` for the first one's socket once more. LISTEN_FDS is set to their number unless it is set already.
"""

import fcntl
import os
import socket
import sys

FIRST = 3
ASIDE = 100


def opened(what):
    if what == "tcp":
        return socket.create_server(("127.0.0.1", 0)).detach()
    if what == "udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock.detach()
    if what == "connected":
        kept, given = socket.socketpair()
        kept.detach()
        return given.detach()
    if what == "file":
        return os.open(os.devnull, os.O_RDONLY)
    if what == "unbound":
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if what == "unbound-unix":
        return sock.detach()
    sock.bind(what)
    sock.listen()
    return sock.detach()


end = sys.argv.index("--")
kinds, command = sys.argv[1:end], sys.argv[end + 1 :]
aside = []
for what in kinds:
    if what == "nothing":
        aside.append(None)
    else:
        descriptor = aside[0] if what == "again" else opened(what)
        aside.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD, ASIDE))
os.closerange(FIRST, ASIDE)
for place, descriptor in enumerate(aside, FIRST):
    if descriptor is not None:
        os.dup2(descriptor, place)
        os.close(descriptor)
os.environ.setdefault("LISTEN_FDS", str(len(kinds)))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(command[0], command)
