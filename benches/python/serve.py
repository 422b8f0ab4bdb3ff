"""asyncio's and uvloop's server: a protocol, or a handler with streams, for each connection.

The contract is in ../README.md; `--runtime` chooses the loop. asyncio and uvloop receive into a
buffer of their own size (256 KiB); with streams, `--buffer` is the reader's limit and the size
of a read.
"""

import argparse
import asyncio
import logging
import os
import resource
import socket
import sys
import tempfile

BACKLOG = 4096
CHUNK = bytes(64 * 1024)
COUNT = 8  # bytes of the count that is sent or received


class Connection(asyncio.Protocol):
    """What all have in common: a transport, and back-pressure from writing to reading."""

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Echo(Connection):
    def data_received(self, data):
        self.transport.write(data)


class Lines(Connection):
    """Answers each line with a write of its own."""

    rest = b""

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")

    def eof_received(self):
        self.transport.write(self.rest)


class LinesBuffered(Lines):
    """Answers all the lines that came together with one write."""

    def data_received(self, data):
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        self.transport.write(lines + newline)


class Upload(Connection):
    count = 0

    def data_received(self, data):
        self.count += len(data)

    def eof_received(self):
        self.transport.write(self.count.to_bytes(COUNT, "little"))


class Download(Connection):
    """Writes until the transport says that it has enough, and goes on when it has less."""

    def __init__(self):
        self.head = b""
        self.left = 0
        self.paused = False

    def data_received(self, data):
        self.head += data
        if len(self.head) >= COUNT:
            self.transport.pause_reading()
            self.left = int.from_bytes(self.head[:COUNT], "little")
            self.send()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.send()

    def send(self):
        while self.left > 0 and not self.paused:
            size = min(self.left, len(CHUNK))
            self.left -= size
            self.transport.write(CHUNK[:size])
        if self.left == 0:
            # Not at once: asyncio loses a connection twice, and fails, when it is closed from
            # within `resume_writing` with nothing left to send.
            asyncio.get_running_loop().call_soon(self.transport.close)


PROTOCOLS = {
    "echo": Echo,
    "lines": Lines,
    "lines-buffered": LinesBuffered,
    "upload": Upload,
    "download": Download,
}


async def echo(reader, writer, buffer):
    while data := await reader.read(buffer):
        writer.write(data)
        await writer.drain()


async def lines(reader, writer, buffer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def upload(reader, writer, buffer):
    count = 0
    while data := await reader.read(buffer):
        count += len(data)
    writer.write(count.to_bytes(COUNT, "little"))
    await writer.drain()


async def download(reader, writer, buffer):
    left = int.from_bytes(await reader.readexactly(COUNT), "little")
    while left > 0:
        size = min(left, len(CHUNK))
        left -= size
        writer.write(CHUNK[:size])
        await writer.drain()


HANDLERS = {"echo": echo, "lines": lines, "upload": upload, "download": download}


def handler(work, buffer):
    """The callback that start_server wants: `work`, then the end of the connection."""

    async def handle(reader, writer):
        try:
            await work(reader, writer, buffer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()  # the client is gone, which is its own affair

    return handle


def tcp_listener():
    """A socket bound to 127.0.0.1 and a port of the kernel's choice, not yet listening.

    TCP_NODELAY is set on the listener: on Linux, accepted sockets inherit it.
    """
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def unix_listener():
    """A socket bound to a path among the temporary files that is nobody else's."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.path.join(tempfile.gettempdir(), f"serve-{os.getpid()}"))
    return sock, sock.getsockname()


async def serve(options):
    loop = asyncio.get_running_loop()
    if options.listen == "unix":
        sock, place = unix_listener()
        create_server, start_server = loop.create_unix_server, asyncio.start_unix_server
    else:
        sock, place = tcp_listener()
        create_server, start_server = loop.create_server, asyncio.start_server
    if options.api == "protocol":
        server = await create_server(PROTOCOLS[options.work], sock=sock, backlog=BACKLOG)
    else:
        handle = handler(HANDLERS[options.work], options.buffer)
        limit = max(options.buffer, 64 * 1024)
        server = await start_server(handle, limit=limit, sock=sock, backlog=BACKLOG)
    print(place, flush=True)
    async with server:
        await server.serve_forever()


def new_event_loop(runtime):
    if runtime == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        sys.exit(refuse("uvloop is not installed for this python3"))
    return uvloop.new_event_loop


def refuse(reason):
    """The status to exit with, for what was asked and cannot be done."""
    print(reason, file=sys.stderr)
    return 2


def settle_allocator():
    """Frees one large block, as any program of some age has done.

    asyncio receives into a new object of 256 KiB each time. glibc maps and unmaps each of them,
    until it has seen a larger block freed; from then on they come from the heap. Without this an
    echo of asyncio's costs five times as much, which would say nothing of asyncio.
    """
    bytes(1024 * 1024)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--api", choices=["protocol", "streams"], default="streams")
    parser.add_argument("--listen", choices=["tcp", "unix"], default="tcp")
    parser.add_argument("--work", choices=list(PROTOCOLS), default="echo")
    parser.add_argument("--buffer", type=int, default=len(CHUNK))
    return parser.parse_args()


def main():
    options = parse_options()
    if options.api == "streams" and options.work not in HANDLERS:
        return refuse("asyncio's StreamReader does not say whether it holds a whole line")
    # A client that resets while lines are answered is no news.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settle_allocator()
    with asyncio.Runner(loop_factory=new_event_loop(options.runtime)) as runner:
        runner.run(serve(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
