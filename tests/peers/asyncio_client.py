"""CPython's asyncio as the client: asyncio_client.py PORT_OR_PATH SCENARIO [SIZE]. Prints what came
of it."""

import asyncio
import hashlib
import random
import socket
import struct
import sys
import zlib


def pattern(size):
    return random.Random(size).randbytes(size)


async def everything(reader):
    digest, size = hashlib.sha256(), 0
    while data := await reader.read(65536):
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


async def echo(reader, writer, size):
    """Sends, ends its half, and gets all of it back, then the end."""
    data = pattern(size)
    expected = size, hashlib.sha256(data).hexdigest()
    received = asyncio.ensure_future(everything(reader))
    for start in range(0, size, 100_000):
        writer.write(data[start : start + 100_000])
        await writer.drain()
    writer.write_eof()
    return "same" if await received == expected else "different"


async def half_close(reader, writer, size):
    """The server ends its half first, and this one goes on writing."""
    assert await reader.read() == b"that is all from me"
    writer.write(b"but not from me")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    return "ended"


async def reset(reader, writer, size):
    """Resets the connection in the middle of everything."""
    writer.write(b"half a li")
    await writer.drain()
    assert await reader.readexactly(5) == b"ready"
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await writer.wait_closed()
    return "reset"


async def slow(reader, writer, size):
    """Reads with a small buffer, a little at a time."""
    checksum, received = 1, 0
    while data := await reader.read(1000):
        checksum = zlib.adler32(data, checksum)
        received += len(data)
        await asyncio.sleep(0)
    return f"{received} {checksum}"


async def main(address, scenario, size=0):
    if address.isdecimal():
        connecting = asyncio.open_connection("127.0.0.1", int(address), limit=4096)
    else:
        connecting = asyncio.open_unix_connection(address, limit=4096)
    reader, writer = await connecting
    print(await globals()[scenario](reader, writer, int(size)), flush=True)
    writer.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
