"""CPython's ssl over asyncio as the server: tls_server.py PATH_OR_0 VERSION CERT KEY WAY, where WAY is tls,
or start_tls_on_the_stream, or start_tls_on_the_transport. Prints its port or path; each client says in
its first line what it wants: echo, they_close, close, leave or count. Prints how each connection ended. Ends when its
standard input does."""

import asyncio
import ssl
import sys

LIMIT = 1 << 20
# Every wait for an end has to be over long before asyncio's own limit of 30 seconds.
SOON = 10


def context_for(version, cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.load_cert_chain(cert, key)
    return context


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def they_close(reader, writer):
    assert await reader.read() == b"the last line\n"


async def close(reader, writer):
    writer.write(b"the last line\n")


async def leave(reader, writer):
    """Much more than fits is closed without a wait."""
    writer.write(bytes(8 << 20))


async def count(reader, writer):
    received = 0
    while data := await reader.read(1000):
        received += len(data)
    print(received, "counted", flush=True)


async def serve(reader, writer):
    wanted = (await reader.readline()).decode().strip()
    await globals()[wanted](reader, writer)
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), SOON)
    print(wanted, "is over", flush=True)


async def serve_after_start_tls(reader, writer, context):
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"go ahead\n")
    await writer.start_tls(context)
    await serve(reader, writer)


class Upgrading(asyncio.Protocol):
    """For those who do without streams: an echo, behind the beginning."""

    def __init__(self, context):
        self.context = context
        self.lines = asyncio.StreamReader(limit=LIMIT)

    def connection_made(self, transport):
        self.task = asyncio.ensure_future(self.serve(transport))

    def data_received(self, data):
        self.lines.feed_data(data)

    def eof_received(self):
        self.lines.feed_eof()

    def connection_lost(self, exc):
        print("echo is over" if exc is None else f"echo failed: {exc!r}", flush=True)

    async def serve(self, transport):
        assert await self.lines.readline() == b"STARTTLS\n"
        transport.write(b"go ahead\n")
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(transport, self, self.context, server_side=True)
        assert await self.lines.readline() == b"echo\n"
        while data := await self.lines.read(65536):
            transport.write(data)
        transport.close()


async def main(address, version, cert, key, way):
    context = context_for(version, cert, key)
    loop = asyncio.get_running_loop()
    if way == "tls":
        if address == "0":
            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LIMIT, ssl=context)
        else:
            server = await asyncio.start_unix_server(serve, address, limit=LIMIT, ssl=context)
    elif way == "start_tls_on_the_stream":
        handler = lambda reader, writer: serve_after_start_tls(reader, writer, context)
        server = await asyncio.start_server(handler, "127.0.0.1", 0, limit=LIMIT)
    else:
        server = await loop.create_server(lambda: Upgrading(context), "127.0.0.1", 0)
    name = server.sockets[0].getsockname()
    print(name if isinstance(name, str) else name[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 100))
