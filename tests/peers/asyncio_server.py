"""CPython's asyncio as the server: asyncio_server.py [PATH]. Prints its port or path; each client says in its first line what it
wants: echo, half_close, reset, slow or close. Ends when its standard input does."""

import asyncio
import socket
import struct
import sys
import zlib


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def half_close(reader, writer):
    writer.write(b"that is all from me")
    writer.write_eof()
    data = await reader.read()
    assert data == b"but not from me", data


async def reset(reader, writer):
    writer.write(b"one\ntwo\nhalf a li")
    await writer.drain()
    await reader.readexactly(5)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def slow(reader, writer):
    checksum, received = 1, 0
    while data := await reader.read(1000):
        checksum = zlib.adler32(data, checksum)
        received += len(data)
        await asyncio.sleep(0)
    writer.write(f"{received} {checksum}\n".encode())


async def close(reader, writer):
    pass


async def serve(reader, writer):
    try:
        wanted = (await reader.readline()).decode().strip()
        await globals()[wanted](reader, writer)
    finally:
        writer.close()


async def main(path=None):
    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
    else:
        server = await asyncio.start_unix_server(serve, path, limit=4096)
        print(server.sockets[0].getsockname(), flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 100))
