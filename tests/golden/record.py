"""Drives CPython's asyncio with generated scripts and records what it did.

    python3 tests/golden/record.py --seed N --scripts M --out DIR

makes M recordings in all, split 40 : 4 : 1 between reader, loop and connections, in DIR/reader.txt,
DIR/loop.txt and DIR/connections.txt. `tests/golden.rs` replays them against this crate.

    python3 tests/golden/record.py --again reader|loop|connections

reads scripts or recordings from standard input, a line each, and answers each with a recording:
so a failing script is made smaller, a step at a time, with asyncio as the judge.

Only the standard library, CPython 3.11 and later. A recording is a line of text: what was done,
and behind each step what was seen, if anything. The comment above each class is its grammar.
"""

import argparse
import asyncio
import random
import re
import socket
import struct
import sys
from pathlib import Path

# The first line of a file: what made it.
HEADER = "# evloop golden {kind}: CPython {version}, seed {seed}, {count} scripts"


# ------------------------------------------------------------------------------------ reader
#
#   line    = limit ":" step*
#   step    = "F" runs | "E" | "X" k | "S"            feed_data, feed_eof, set_exception, set_transport
#           | "R" n | "A" | "B" n | "N" | "U" runs     read(n), read(-1), readexactly, readline, readuntil
#           | "C" | "T"                                cancel, one turn of the loop
#           | "L" | "D"                                connection_lost of its protocol, with exception 4, with none
#   runs    = (letter count?)*                         a b c are themselves, n is a newline
#
# Behind a step: "-" and "+" are pause_reading and resume_reading, in order; "!" is a refusal.
# Behind a turn, how the read ended, if it did:
#
#   "=" n                the next n bytes of those that were fed and not yet returned
#   '"' runs             other bytes than those
#   "?" n "/" (n | "u")  IncompleteReadError: n bytes, as above, of so many expected
#   ">" n ("y" | "n")    LimitOverrunError: consumed, and whether its text says "found"
#   "v" ("y" | "n")      ValueError of readline: whether its text says "found"
#   "z"                  another ValueError
#   "x" k                the exception k
#   "k"                  CancelledError
#
# and "#" n for n bytes that have left the buffer and that nobody got.

READER_STEP = re.compile(
    r'([FU])((?:[abcn]\d*)*)|([XRB])(\d+)|([ESANCTLD])'
)
READER_SEEN = re.compile(r'[-+!zk]|=\d+|"(?:[abcn]\d*)*|\?\d+/(?:\d+|u)|>\d+[yn]|v[yn]|x\d|#\d+')


def pack(data):
    """Bytes as runs."""
    return "".join(
        ("n" if run[0] == "\n" else run[0]) + (str(len(run)) if len(run) > 1 else "")
        for run in (match.group() for match in re.finditer(r"(.)\1*", data.decode(), re.S))
    )


def unpack(runs):
    return b"".join(
        (b"\n" if letter == "n" else letter.encode()) * int(count or 1)
        for letter, count in re.findall(r"([abcn])(\d*)", runs)
    )


class Trouble(Exception):
    """What is given to set_exception."""

    def __init__(self, k):
        super().__init__(k)
        self.k = k


class Tap(asyncio.Transport):
    """A transport of which only pausing is wanted: it writes down each call."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def pause_reading(self):
        self.calls.append("-")

    def resume_reading(self):
        self.calls.append("+")


class ReaderRun:
    def __init__(self, limit):
        self.limit = limit
        self.calls = []
        self.reader = asyncio.StreamReader(limit=limit)
        self.protocol = asyncio.StreamReaderProtocol(self.reader)
        self.is_lost = False
        self.task = None
        self.is_readline = False
        # Fed, and not yet returned or lost.
        self.rest = bytearray()
        self.line = [f"{limit}:"]

    async def step(self, step):
        """Does one step and writes it down with what was seen. A step that cannot be done now is
        left out."""
        seen = await self.do(step)
        if seen is None:
            return
        seen = "".join(self.calls) + seen
        self.calls.clear()
        if self.task is None:
            lost = len(self.rest) - len(self.reader._buffer)
            assert lost >= 0
            if lost:
                del self.rest[:lost]
                seen += f"#{lost}"
            assert self.rest == self.reader._buffer
        self.line.append(step + seen)

    async def do(self, step):
        kind, rest = step[0], step[1:]
        reader = self.reader
        if kind == "F":
            data = unpack(rest)
            try:
                reader.feed_data(data)
            except AssertionError:
                return "!"
            self.rest += data
            return ""
        if kind == "E":
            reader.feed_eof()
            return ""
        if kind == "X":
            reader.set_exception(Trouble(int(rest)))
            return ""
        if kind in "LD":
            if self.is_lost:
                return None
            self.is_lost = True
            self.protocol.connection_lost(Trouble(4) if kind == "L" else None)
            return ""
        if kind == "S":
            try:
                reader.set_transport(Tap(self.calls))
            except AssertionError:
                return "!"
            return ""
        if kind == "C":
            if self.task is None or self.task.cancelling():
                return None
            self.task.cancel()
            return ""
        if kind == "T":
            await asyncio.sleep(0)
            if self.task is None or not self.task.done():
                return ""
            task, self.task = self.task, None
            return self.outcome(task)
        if self.task is not None:
            return None
        self.is_readline = kind == "N"
        self.task = asyncio.ensure_future(
            {
                "R": lambda: reader.read(int(rest)),
                "A": lambda: reader.read(-1),
                "B": lambda: reader.readexactly(int(rest)),
                "N": lambda: reader.readline(),
                "U": lambda: reader.readuntil(unpack(rest)),
            }[kind]()
        )
        return ""

    def outcome(self, task):
        try:
            value = task.result()
        except asyncio.CancelledError:
            return "k"
        except asyncio.IncompleteReadError as error:
            assert self.rest.startswith(error.partial)
            del self.rest[: len(error.partial)]
            expected = "u" if error.expected is None else error.expected
            return f"?{len(error.partial)}/{expected}"
        except asyncio.LimitOverrunError as error:
            return f">{error.consumed}{self.found(error)}"
        except ValueError as error:
            return f"v{self.found(error)}" if self.is_readline else "z"
        except Trouble as error:
            return f"x{error.k}"
        assert type(value) is bytes
        if self.rest.startswith(value):
            del self.rest[: len(value)]
            return f"={len(value)}"
        return '"' + pack(value)

    @staticmethod
    def found(error):
        found = {
            "Separator is found, but chunk is longer than limit": "y",
            "Separator is not found, and chunk exceed the limit": "n",
        }
        return found[error.args[0]]

    async def end(self):
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.exception()
        return "".join(self.line)


SEPARATORS = "n a an aa ab aab aba aaa abab aabaa ababa anan abcab aaaaa".split()


async def generate_reader(rng):
    """One script. It is made while it runs, since what is worth doing depends on what waits."""
    limit = rng.choice((rng.randint(1, 8), rng.randint(1, 64)))
    run = ReaderRun(limit)
    # Letters for this script: few, so that separators are met, almost met and overlap.
    letters = rng.choice(("an", "ab", "abn", "aabn", "abcn", "aaaab"))
    whole_turns = rng.random() < 0.6
    # What a user would hardly do comes in few scripts, so that those before it stay exact.
    trouble = rng.random() < 0.2
    # Lines that may be too long come in few scripts, others in those where no line can be.
    lines = rng.random() < 0.1 or (limit > 40 and letters == "an")
    ended = False
    if rng.random() < 0.9:
        await run.step("S")
    for _ in range(rng.randint(10, 34)):
        dice = rng.random()
        if run.task is None and dice < 0.42:
            await run.step(a_read(rng, limit, lines))
            if rng.random() < 0.7:
                await run.step("T")
        elif dice < 0.80:
            if not ended or rng.random() < 0.05:
                await run.step("F" + pack(a_feed(rng, limit, letters)))
            if whole_turns or rng.random() < 0.4:
                await run.step("T")
        elif dice < 0.93:
            await run.step("T")
        elif dice < 0.955:
            await run.step("C")
            if rng.random() < 0.8:
                await run.step("T")
        elif dice < 0.97:
            await run.step("E")
            ended = True
        elif dice < 0.98:
            if trouble:
                await run.step(rng.choice((f"X{rng.randint(1, 3)}", "L", "L", "D")))
        elif dice < 0.985:
            await run.step("S")
        else:
            await run.step("B0" if rng.random() < 0.5 else "R0")
    await run.step("T")
    return await run.end()


def a_feed(rng, limit, letters):
    size = rng.choice((0, 1, 1, 2, 3, rng.randint(0, limit), rng.randint(0, 3 * limit)))
    if rng.random() < 0.15:
        return (rng.choice("ab") * size).encode()
    data = "".join(rng.choice(letters) for _ in range(min(size, 24)))
    data += rng.choice("ab") * (size - len(data))
    return data.replace("n", "\n").encode()


def a_read(rng, limit, lines):
    dice = rng.random()
    if dice < 0.22:
        return f"R{rng.choice((0, 1, 2, 3, limit, 10 * limit + 7, rng.randint(1, 2 * limit)))}"
    if dice < 0.23:
        return "A"
    if dice < 0.45:
        return f"B{rng.choice((0, 1, 2, limit, 2 * limit + 1, rng.randint(1, 3 * limit)))}"
    if dice < 0.60 and lines:
        return "N"
    if dice < 0.56:
        return "U"
    return "U" + rng.choice(SEPARATORS)


async def again_reader(line):
    limit, steps = line.split(":", 1)
    run = ReaderRun(int(limit))
    at = 0
    while at < len(steps):
        match = READER_STEP.match(steps, at) or READER_SEEN.match(steps, at)
        if match.re is READER_STEP:
            await run.step(match.group())
        at = match.end()
    return await run.end()


# -------------------------------------------------------------------------------------- loop
#
#   line    = step ("," step)* "|" trace
#   step    = owner act
#   owner   = n | "@" n                    inside callback n | before run n
#   act     = "s" n                        call_soon(n)
#           | "l" n                        call_later(0, n)
#           | "p" k "/" n                  call_at(k ms before the script began, n)
#           | "f" n                        call_later(an hour, n)
#           | "d" k "/" n                  before a run only: call_later(k * 100 us, n)
#           | "c" n                        cancel n, if it is scheduled
#           | "!" | "x"                    stop | raise
#
# Every callback has a number of its own and does the steps that it owns, in order. A run is ended
# by "!" or by a chain of call_soon, which is the script's last resort. Before a run with "d" steps
# everything that waits is run to its end, and its callbacks do nothing: so nothing depends on how
# fast the machine is. The trace: "n" a callback ran, "e" the exception handler was called, "." a
# run ended; "~" and then the numbers of the handles that say that they are cancelled.

LOOP_STEP = re.compile(r"(@?)(\d+)(?:([slfc])(\d+)|([pd])(\d+)/(\d+)|([!x]))")
CHAIN = 12
HOUR = 3600


class LoopRun:
    def __init__(self, steps):
        self.steps = [step for step in steps.split(",") if step]
        self.bodies = {}
        self.runs = {}
        for step in self.steps:
            run, owner, *act = LOOP_STEP.fullmatch(step).groups()
            bodies = self.runs if run else self.bodies
            bodies.setdefault(int(owner), []).append([part for part in act if part is not None])
        self.handles = {}
        self.trace = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.trace.append("e"))
        self.begin = self.loop.time()

    def call(self, n):
        self.trace.append(str(n))
        for act in self.bodies.get(n, ()):
            self.act(act)

    def act(self, act):
        kind, *numbers = act
        loop = self.loop
        n = int(numbers[-1]) if numbers else None
        if kind == "s":
            self.handles[n] = loop.call_soon(self.call, n)
        elif kind == "l":
            self.handles[n] = loop.call_later(0, self.call, n)
        elif kind == "p":
            when = self.begin - int(numbers[0]) / 1000
            self.handles[n] = loop.call_at(when, self.call, n)
        elif kind == "f":
            self.handles[n] = loop.call_later(HOUR, self.call, n)
        elif kind == "c":
            if n in self.handles:
                self.handles[n].cancel()
        elif kind == "!":
            loop.stop()
        elif kind == "x":
            raise Trouble(0)

    def run_chained(self, turns):
        """One run. True if it was the chain that ended it."""
        chain = None
        over = False

        def link(left):
            nonlocal chain, over
            if left == 0:
                over = True
                self.loop.stop()
            else:
                chain = self.loop.call_soon(link, left - 1)

        link(turns)
        self.loop.run_forever()
        chain.cancel()
        self.trace.append(".")
        return over

    def run(self):
        for n in sorted(self.runs):
            acts = self.runs[n]
            if all(act[0] != "d" for act in acts):
                for act in acts:
                    if act[0] != "x":
                        self.act(act)
                self.run_chained(CHAIN)
                continue
            while not self.run_chained(4 * CHAIN):
                pass
            begin = self.loop.time()
            last = 0
            for kind, *numbers in acts:
                if kind == "d":
                    k, leaf = map(int, numbers)
                    last = max(last, k)
                    when = begin + k / 10000
                    self.handles[leaf] = self.loop.call_at(when, self.trace.append, str(leaf))
                elif kind == "c":
                    self.act([kind, *numbers])
            self.loop.call_at(begin + (last + 1) / 10000, self.loop.stop)
            self.loop.run_forever()
            self.trace.append(".")
        self.loop.close()
        cancelled = [str(n) for n in sorted(self.handles) if self.handles[n].cancelled()]
        trace = " ".join(self.trace) + "~" + " ".join(cancelled)
        return ",".join(self.steps) + "|" + trace


def generate_loop(rng):
    steps = []
    count = 0
    past = list(range(1, 400))
    rng.shuffle(past)

    def body(owner, depth, acts):
        nonlocal count
        for _ in range(acts):
            dice = rng.random()
            if dice < 0.14:
                steps.append(f"{owner}c{rng.randint(0, count + 3)}")
                continue
            if dice < 0.18:
                steps.append(f"{owner}!")
                continue
            if dice < 0.21 and not owner.startswith("@"):
                steps.append(f"{owner}x")
                return
            if count >= 60:
                return
            n, count = count, count + 1
            if dice < 0.60:
                steps.append(f"{owner}s{n}")
            elif dice < 0.76:
                steps.append(f"{owner}l{n}")
            elif dice < 0.93:
                steps.append(f"{owner}p{past.pop()}/{n}")
            else:
                steps.append(f"{owner}f{n}")
            if depth < 8:
                body(str(n), depth + 1, rng.choice((0, 0, 1, 1, 2, 3)))

    for run in range(rng.randint(1, 4)):
        owner = f"@{run}"
        if rng.random() < 0.15:
            for k in rng.sample(range(1, 12), rng.randint(1, 4)):
                steps.append(f"{owner}d{k}/{count}")
                count += 1
            if rng.random() < 0.5:
                steps.append(f"{owner}c{rng.randint(0, count - 1)}")
        else:
            body(owner, 0, rng.randint(1, 6))
    return LoopRun(",".join(steps)).run()


def again_loop(line):
    return LoopRun(line.split("|")[0]).run()


# ------------------------------------------------------------------------------- connections
#
#   line    = keep keep ":" (step "(" event* "|" flag* "|" peer? ")")*
#   keep    = "0" | "1"          what eof_received returns: at this end, at the peer's
#   step    = "w" n | "l" | "d"  write n bytes | write 6 MiB | drain
#           | "p" | "q"          pause_reading, resume_reading
#           | "e" | "c" | "a"    write_eof, close, abort
#           | "W" n | "P" | "Q" | "E" | "C" | "A" | "R"      the peer does so; R is a reset
#   event   = "d" n              data_received, n bytes in all
#           | "e"                eof_received
#           | "l" kind           connection_lost: - none, R reset, B broken pipe, A aborted, O other
#           | "!"                the step has raised
#           | "X"                what must never be: other bytes, two pauses in a row, ...
#   flag    = "C" | "P" | "B"    is_closing, not is_reading, something is unsent
#   peer    = n event*           if it is other than before: how many bytes the peer has received,
#                                and its own e and l
#
# The peer is a process of its own. It does as it is told over a second connection, and answers
# each step when it is done. What a step must lead to is waited for before the next one, so that
# only one outcome is right. Byte n of either direction is known.

CONNECTION_STEP = re.compile(r"([wW])(\d+)|([ldpqecaPQECAR])")
CONNECTION_SEEN = re.compile(r"\(([^)]*)\)")
LARGE = 6 << 20
PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(1 << 16))
PATIENCE = 10


def stretch(start, count):
    """The bytes number start to start + count of a direction."""
    start %= len(PATTERN)
    times = (start + count) // len(PATTERN) + 1
    return (PATTERN * times)[start : start + count]


def kind_of(exc):
    kinds = {
        type(None): "-",
        ConnectionResetError: "R",
        BrokenPipeError: "B",
        ConnectionAbortedError: "A",
    }
    return kinds.get(type(exc), "O")


class End(asyncio.Protocol):
    """One end of a connection, whichever."""

    def __init__(self, keep):
        self.keep = keep
        self.transport = None
        self.received = 0
        self.sent = 0
        self.eof = False
        self.lost = None
        self.paused = False
        self.finished = False
        self.events = []
        self.change = asyncio.Event()

    def say(self, event):
        self.events.append(event)
        self.change.set()

    def connection_made(self, transport):
        self.transport = transport
        self.change.set()

    def data_received(self, data):
        if self.eof or data != stretch(self.received, len(data)):
            self.say("X")
        self.received += len(data)
        if self.events and self.events[-1][0] == "d":
            data_so_far = int(self.events.pop()[1:])
        else:
            data_so_far = 0
        self.say(f"d{data_so_far + len(data)}")

    def eof_received(self):
        self.eof = True
        self.say("e")
        return self.keep

    def connection_lost(self, exc):
        self.lost = kind_of(exc)
        self.say("l" + self.lost)

    def pause_writing(self):
        self.alternate(True)

    def resume_writing(self):
        self.alternate(False)

    def alternate(self, paused):
        if self.paused == paused:
            self.say("X")
        self.paused = paused
        self.change.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.change.clear()
                await self.change.wait()

    def act(self, step):
        try:
            self.act_now(step[0].lower(), step[1:])
        except (AttributeError, OSError):
            self.say("!")

    def act_now(self, kind, count):
        transport = self.transport
        if kind == "w" or kind == "l":
            count = LARGE if kind == "l" else int(count)
            transport.write(stretch(self.sent, count))
            self.sent += count
        elif kind == "p":
            transport.pause_reading()
        elif kind == "q":
            transport.resume_reading()
        elif kind == "e":
            self.finished = True
            transport.write_eof()
        elif kind == "c":
            transport.close()
        elif kind == "a":
            transport.abort()
        elif kind == "r":
            linger = struct.pack("ii", 1, 0)
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()

    def reads(self):
        return self.transport.is_reading() and not self.eof


# The peer's side. A line is a command, "ok" or the state is the answer.
#
#   "open" keep       the next connection is for us
#   "made"            waits for it
#   "do" step         does it
#   "state" n end     waits until n bytes were received, or the end was seen if end is 1; gives
#                     received, events, "g" if it is closing or gone, "p" if it does not read
#   "over"            ends the connection


async def serve_peer():
    end = None

    def accept():
        return end

    async def obey(reader, writer):
        try:
            await obey_each(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass  # Nobody wants us any more.

    async def obey_each(reader, writer):
        nonlocal end
        while line := await reader.readline():
            command, *args = line.decode().split()
            answer = "ok"
            if command == "open":
                end = End(args[0] == "1")
            elif command == "made":
                await end.until(lambda: end.transport is not None)
            elif command == "do":
                if end.lost is None:
                    end.act(args[0])
            elif command == "state":
                wanted, to_the_end = int(args[0]), args[1] == "1"
                ended = lambda: end.eof or end.lost is not None
                try:
                    await end.until(
                        lambda: ended() or (end.received >= wanted and not to_the_end)
                    )
                except TimeoutError:
                    pass  # The answer tells.
                marks = "".join(e for e in end.events if e[0] != "d")
                gone = "g" if end.transport.is_closing() else "-"
                reads = "-" if end.reads() else "p"
                answer = f"{end.received}{marks} {gone} {reads}"
            elif command == "over":
                if end.lost is None:
                    end.transport.abort()
            writer.write(answer.encode() + b"\n")
        writer.close()

    loop = asyncio.get_running_loop()
    # A small window, so that what is not read soon blocks whoever writes.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(accept, sock=sock)
    control = await asyncio.start_server(obey, "127.0.0.1", 0)
    ports = (listening.sockets[0].getsockname()[1] for listening in (server, control))
    print(*ports, flush=True)
    # Whoever started this closes our standard input when it is over.
    await loop.run_in_executor(None, sys.stdin.read)


class Stage:
    """A peer in a process of its own, and the way to it."""

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-B", __file__, "--peer"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        ports = await self.process.stdout.readline()
        self.port, control = map(int, ports.split())
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", control)
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        self.process.stdin.close()
        await self.process.wait()

    async def ask(self, *words):
        self.writer.write(" ".join(map(str, words)).encode() + b"\n")
        answer = await self.reader.readline()
        assert answer, "the peer is gone"
        return answer.decode().split()


class ConnectionRun:
    def __init__(self, stage, keep, peer_keep):
        self.stage = stage
        self.end = End(keep)
        self.keeps = (keep, peer_keep)
        self.line = [f"{keep:d}{peer_keep:d}:"]
        self.peer_sent = 0
        self.peer_ended = False
        self.peer_reads = True
        self.peer_gone = False
        self.told = "0"
        # How much the peer gets is not certain any more.
        self.blurred = False

    async def begin(self):
        await self.stage.ask("open", int(self.keeps[1]))
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.end, "127.0.0.1", self.stage.port)
        await self.stage.ask("made")
        await self.look(0, 0)

    def can(self, step):
        kind = step[0]
        end = self.end
        if kind in "wl":
            return not end.finished
        if kind == "d":
            return self.peer_reads or not end.paused
        if kind in "WPQECAR":
            if kind == "W" and self.peer_ended:
                return False
            return not self.peer_gone
        return True

    async def step(self, step):
        if not self.can(step):
            return
        end = self.end
        open_before = end.lost is None
        unsent = end.transport.get_write_buffer_size() > 0
        if step == "d":
            await end.until(lambda: not end.paused or end.lost is not None)
        elif step[0].islower():
            end.act(step)
        else:
            if step[0] == "W":
                self.peer_sent += int(step[1:])
            self.peer_ended |= step[0] in "ECAR"
            await self.stage.ask("do", step)
        # The second time for what the first has led to.
        for _ in range(3):
            await self.settle()
        transport = end.transport
        flags = (
            ("C", transport.is_closing()),
            ("P", not transport.is_reading()),
            ("B", transport.get_write_buffer_size() > 0),
        )
        flags = "".join(name for name, value in flags if value)
        if unsent and open_before and end.lost is not None:
            self.blurred = int(re.match(r"\d+", self.seen).group()) != end.sent
        peer = ""
        if self.seen != self.told and not self.blurred:
            peer = self.told = self.seen
        self.line.append(f"{step}({''.join(end.events)}|{flags}|{peer})")
        end.events.clear()

    async def settle(self):
        """Waits for whatever has to come."""
        end = self.end
        await self.look(0, 0)
        if self.peer_reads and not self.peer_gone:
            ended = end.lost is not None or (
                end.finished and end.transport.get_write_buffer_size() == 0
            )
            await self.look(0 if ended else end.sent, int(ended))
        if end.lost is None and end.reads():
            await end.until(lambda: end.received >= self.peer_sent or end.lost is not None)
            if self.peer_ended or self.peer_gone:
                await end.until(lambda: end.eof or end.lost is not None)
        unsent = end.transport.get_write_buffer_size() > 0
        if end.transport.is_closing() and (not unsent or self.peer_reads or self.peer_gone):
            await end.until(lambda: end.lost is not None)
        elif unsent and self.peer_gone:
            await end.until(lambda: end.lost is not None)
        await self.look(0, 0)

    async def look(self, wanted, end):
        self.seen, gone, reads = await self.stage.ask("state", wanted, end)
        self.peer_gone = gone == "g"
        self.peer_reads = reads == "-"

    async def finish(self):
        await self.stage.ask("over")
        if self.end.lost is None:
            self.end.transport.abort()
            await self.end.until(lambda: self.end.lost is not None)
        return "".join(self.line)


async def generate_connection(rng, stage):
    run = ConnectionRun(stage, rng.random() < 0.6, rng.random() < 0.6)
    await run.begin()
    large = rng.random() < 0.12
    size = lambda: rng.choice((1, 2, 10, 100, rng.randint(1, 3000), rng.randint(1, 20000)))
    for _ in range(rng.randint(5, 20)):
        if run.end.lost is not None and rng.random() < 0.7:
            break
        # After the peer has gone only a few go on.
        if run.peer_gone and rng.random() < 0.5:
            break
        dice = rng.random()
        if dice < 0.24:
            step = f"w{size()}"
        elif dice < 0.27:
            step = "l" if large else "d"
        elif dice < 0.31:
            step = "d"
        elif dice < 0.41:
            step = "p"
        elif dice < 0.52:
            step = "q"
        elif dice < 0.57:
            step = "e"
        elif dice < 0.61:
            step = "c"
        elif dice < 0.64:
            step = "a"
        elif dice < 0.82:
            step = f"W{size()}"
        elif dice < 0.86:
            step = "P"
            if large:
                await run.step(step)
                step = "l"
        elif dice < 0.90:
            step = "Q"
        elif dice < 0.94:
            step = "E"
        elif dice < 0.96:
            step = "C"
        elif dice < 0.98:
            step = "A"
        else:
            step = "R"
        await run.step(step)
    return await run.finish()


async def one_connection(line, stage):
    head, steps = line.split(":", 1)
    run = ConnectionRun(stage, head[0] == "1", head[1] == "1")
    await run.begin()
    for match in CONNECTION_STEP.finditer(CONNECTION_SEEN.sub(",", steps)):
        await run.step(match.group())
    return await run.finish()


async def again_connections():
    loop = asyncio.get_running_loop()
    async with Stage() as stage:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                print(await one_connection(line.strip(), stage), flush=True)
            except TimeoutError:
                # A smaller script need not come to what is waited for.
                print(flush=True)


# -------------------------------------------------------------------------------------- main


def write(out, kind, seed, lines):
    version = ".".join(map(str, sys.version_info[:3]))
    header = HEADER.format(kind=kind, version=version, seed=seed, count=len(lines))
    text = "\n".join([header, *lines, ""])
    (out / f"{kind}.txt").write_text(text)


AGAIN = {
    "reader": lambda line: asyncio.run(again_reader(line)),
    "loop": again_loop,
}


def record_readers(seed, count):
    async def all_of_them():
        rng = random.Random(f"reader {seed}")
        return [await generate_reader(rng) for _ in range(count)]

    return asyncio.run(all_of_them())


def record_loops(seed, count):
    rng = random.Random(f"loop {seed}")
    return [generate_loop(rng) for _ in range(count)]


def record_connections(seed, count):
    async def all_of_them():
        rng = random.Random(f"connections {seed}")
        async with Stage() as stage:
            return [await generate_connection(rng, stage) for _ in range(count)]

    return asyncio.run(all_of_them())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scripts", type=int, default=45)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--again", choices=[*AGAIN, "connections"])
    parser.add_argument("--peer", action="store_true")
    args = parser.parse_args()
    if args.peer:
        return asyncio.run(serve_peer())
    if args.again == "connections":
        return asyncio.run(again_connections())
    if args.again:
        for line in sys.stdin:
            print(AGAIN[args.again](line.strip()), flush=True)
        return
    if args.out is None:
        parser.error("--out is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    share = args.scripts / 45
    write(args.out, "reader", args.seed, record_readers(args.seed, round(40 * share)))
    write(args.out, "loop", args.seed, record_loops(args.seed, round(4 * share)))
    lines = record_connections(args.seed, round(share))
    write(args.out, "connections", args.seed, lines)


if __name__ == "__main__":
    main()
