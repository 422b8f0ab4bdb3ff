"""An asyncio client of an echo server: sends bytes, ends its side, and compares what comes back.

usage: echo_client.py HOST PORT SIZE [slow]

"slow": reads nothing before the server has stopped reading from it, and then in small pieces.
Prints "ok SIZE" when every byte came back, and then the end of the stream.
"""

import asyncio
import random
import sys

SMALL_LIMIT = 4096


async def send(writer, payload):
    cut = random.Random(len(payload))
    sent = 0
    while sent < len(payload):
        piece = payload[sent : sent + cut.randint(1, 300_000)]
        writer.write(piece)
        await writer.drain()
        sent += len(piece)
    writer.write_eof()


async def until_stuck(writer):
    """Returns when what waits to be sent has not changed for a while, and is not nothing."""
    same, last = 0, None
    while same < 20:
        await asyncio.sleep(0.01)
        waiting = writer.transport.get_write_buffer_size()
        same = same + 1 if waiting and waiting == last else 0
        last = waiting


async def receive(reader, slow):
    received = bytearray()
    while piece := await reader.read(1000 if slow else 1 << 20):
        received += piece
        if slow and len(received) % 64_000 == 0:
            await asyncio.sleep(0)
    return bytes(received)


async def main(host, port, size, slow):
    payload = random.Random(size).randbytes(size)
    limit = SMALL_LIMIT if slow else 1 << 20
    reader, writer = await asyncio.open_connection(host, port, limit=limit)
    sending = asyncio.create_task(send(writer, payload))
    if slow:
        await until_stuck(writer)
    received = await receive(reader, slow)
    await sending
    assert len(received) == size, f"{len(received)} bytes came back of {size}"
    assert received == payload, "other bytes came back"
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()
    print("ok", size)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["slow"]))
