"""CPython's ssl over asyncio as the client: tls_client.py PORT_OR_PATH VERSION CA SCENARIO. Prints what
came of it."""

import asyncio
import hashlib
import random
import ssl
import sys

LINE = 1 << 19
# Every wait for an end has to be over long before asyncio's own limit of 30 seconds.
SOON = 10


def context_for(version, ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.load_verify_locations(ca)
    return context


async def end(writer):
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), SOON)


async def converse(reader, writer):
    """Lines of half a megabyte there and back."""
    for number in range(8):
        line = bytes([ord("a") + number]) * (LINE - 1) + b"\n"
        writer.write(line)
        await writer.drain()
        assert await reader.readline() == line
    return "same"


async def lines(reader, writer):
    said = await converse(reader, writer)
    await end(writer)
    return said


async def echo(reader, writer, size=8 << 20):
    """Sends and receives at the same time."""
    data = random.Random(size).randbytes(size)

    async def send():
        for start in range(0, size, 100_000):
            writer.write(data[start : start + 100_000])
            await writer.drain()

    sending = asyncio.ensure_future(send())
    received = await reader.readexactly(size)
    await sending
    await end(writer)
    return "same" if received == data else "different"


async def bulk(reader, writer, size=64 << 20):
    """The same, much more of it, with a reader that takes a little at a time."""
    sent, received = hashlib.sha256(), hashlib.sha256()
    cut = random.Random(size)

    async def send():
        left = size
        while left:
            piece = cut.randbytes(min(left, 1 << 16))
            sent.update(piece)
            writer.write(piece)
            await writer.drain()
            left -= len(piece)

    sending = asyncio.ensure_future(send())
    left = size
    while left:
        piece = await reader.read(min(left, 8192))
        assert piece, f"{left} bytes are missing"
        received.update(piece)
        left -= len(piece)
    await sending
    await end(writer)
    return "same" if sent.digest() == received.digest() else "different"


async def we_close(reader, writer):
    writer.write(b"the last line\n")
    await end(writer)
    return "closed"


async def they_close(reader, writer):
    writer.write(b"close\n")
    said = (await reader.read()).decode()
    await end(writer)
    return said


async def leave(reader, writer, size=8 << 20):
    """Writes much more than fits, and closes without a wait. What comes back meanwhile is lost."""
    writer.write(bytes(size))
    await end(writer)
    return "left"


async def count(reader, writer):
    """Takes everything, a little at a time."""
    received = 0
    while data := await reader.read(1000):
        received += len(data)
    await end(writer)
    return str(received)


async def start_tls_on_the_stream(reader, writer, context):
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go ahead\n"
    await writer.start_tls(context, server_hostname="localhost")
    # Large lines only behind it: the reader of this stream still holds back the transport below.
    for _ in range(3):
        writer.write(b"now nobody else can read this\n")
        assert await reader.readline() == b"now nobody else can read this\n"
    await end(writer)
    return "same"


class Lines(asyncio.Protocol):
    """For those who do without streams."""

    def __init__(self):
        self.lines = asyncio.StreamReader(limit=2 * LINE)
        self.over = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.lines.feed_data(data)

    def eof_received(self):
        self.lines.feed_eof()

    def connection_lost(self, exc):
        self.over.set_result(exc)


async def start_tls_on_the_transport(address, context):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Lines, "127.0.0.1", int(address))
    transport.write(b"STARTTLS\n")
    assert await protocol.lines.readline() == b"go ahead\n"
    transport = await loop.start_tls(transport, protocol, context, server_hostname="localhost")
    for number in range(8):
        line = bytes([ord("a") + number]) * (LINE - 1) + b"\n"
        transport.write(line)
        assert await protocol.lines.readline() == line
    transport.close()
    assert await asyncio.wait_for(protocol.over, SOON) is None
    return "same"


async def main(address, version, ca, scenario):
    context = context_for(version, ca)
    if scenario == "start_tls_on_the_transport":
        print(await start_tls_on_the_transport(address, context))
        return
    plain = scenario == "start_tls_on_the_stream"
    keywords = {"limit": 2 * LINE}
    if not plain:
        keywords.update(ssl=context, server_hostname="localhost")
    if address.isdecimal():
        connecting = asyncio.open_connection("127.0.0.1", int(address), **keywords)
    else:
        connecting = asyncio.open_unix_connection(address, **keywords)
    reader, writer = await connecting
    if plain:
        print(await start_tls_on_the_stream(reader, writer, context))
    else:
        print(await globals()[scenario](reader, writer))


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
