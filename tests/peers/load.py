"""Clients of an echo server who come, say something, hear it back, go and come again.

usage: load.py HOST PORT CLIENTS MESSAGES

Each of CLIENTS sends MESSAGES messages on a connection, one after the other, the last one together
with its end; and then it connects anew. Every byte that comes back is looked at. Prints "open" when
all of them are connected at the same time and have heard the first message. Then on stdin:

"mark": connections that begin from now on are counted by themselves.
"report": answers with the numbers so far.
"stop": lets everybody end what they have begun, answers with the numbers, and ends.
"""

import asyncio
import random
import resource
import sys

LARGEST = 2048
LIMIT = 60.0  # seconds, for one connection: only a broken server needs so long
KINDS = ["done", "refused", "unconnected", "broken", "stuck", "wrong"]


class Load:
    def __init__(self, host, port, clients, messages):
        self.address = host, port
        self.messages = messages
        self.marked = False
        self.stopping = False
        self.counts = {(late, kind): 0 for late in (False, True) for kind in KINDS}
        self.bytes = 0
        self.missing = clients  # who have not heard anything yet
        self.all_open = asyncio.Event()
        self.clients = [asyncio.create_task(self.client(n)) for n in range(clients)]

    async def client(self, number):
        chance = random.Random(number)
        first = True
        while not self.stopping:
            late = self.marked
            try:
                kind = await asyncio.wait_for(self.connection(chance, first), LIMIT)
            except asyncio.TimeoutError:
                kind = "stuck"
            self.counts[late, kind] += 1
            if kind != "done" and not self.all_open.is_set():
                print(kind, flush=True)  # in the place of "open"
                sys.exit(1)
            first = False
            if kind != "done":
                await asyncio.sleep(0.05)

    async def connection(self, chance, first):
        """How it went, in one word."""
        try:
            reader, writer = await asyncio.open_connection(*self.address)
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "unconnected"
        try:
            for left in reversed(range(self.messages)):
                message = chance.randbytes(chance.randint(1, LARGEST))
                writer.write(message)
                if left == 0:
                    # It must not cut off what is still to come back.
                    writer.write_eof()
                if await reader.readexactly(len(message)) != message:
                    return "wrong"
                self.bytes += len(message)
                if first:
                    # Nobody goes before everybody is there.
                    first = False
                    await self.met()
            return "wrong" if await reader.read(1) else "done"
        except asyncio.IncompleteReadError as error:
            return "broken" if message.startswith(error.partial) else "wrong"
        except OSError:
            return "broken"
        finally:
            writer.transport.abort()

    async def met(self):
        self.missing -= 1
        if self.missing == 0:
            print("open", flush=True)
            self.all_open.set()
        await self.all_open.wait()

    def report(self):
        names = {False: "early", True: "late"}
        numbers = [f"{names[late]}_{kind}={n}" for (late, kind), n in self.counts.items()]
        print(*numbers, f"bytes={self.bytes}", flush=True)


async def main():
    host, port, clients, messages = sys.argv[1], *map(int, sys.argv[2:])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = Load(host, port, clients, messages)

    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).strip():
        if line == b"mark":
            load.marked = True
        elif line == b"stop":
            load.stopping = True
            await asyncio.gather(*load.clients)
            load.report()
            return
        else:
            load.report()


asyncio.run(main())
