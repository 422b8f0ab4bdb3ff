"""What tasks, timers and callbacks cost in asyncio and uvloop.

`--runtime` chooses the loop; `--measure NAME --operations N` are those of the Rust programs, and
so is what is printed: processor nanoseconds of the whole process per operation, after a warm-up.
Messages from another thread are callbacks for `call_soon_threadsafe`, the only way in.
"""

import argparse
import asyncio
import queue
import sys
import threading
import time

BATCH = 1_000  # tasks in a batch, and messages in a burst
OTHER_TIMERS = 10_000
FAR = 3_600  # seconds; no measurement lives to see it
NO_SUCH_MEASURE = 3


async def number(i):
    return i


async def spawn_await(loop, n):
    for i in range(n):
        await loop.create_task(number(i))


async def spawn_batch(loop, n):
    for _ in range(n // BATCH):
        for task in [loop.create_task(number(i)) for i in range(BATCH)]:
            await task


async def yield_between(loop, n):
    async def give_way():
        for _ in range(n // 2):
            await asyncio.sleep(0)

    for task in [loop.create_task(give_way()) for _ in range(2)]:
        await task


async def call_soon(loop, n):
    end = loop.create_future()

    def link(left):
        if left == 0:
            end.set_result(None)
        else:
            loop.call_soon(link, left - 1)

    link(n)
    await end


async def timer(loop, n):
    for _ in range(n):
        loop.call_later(FAR, print).cancel()


async def timer_among_others(loop, n):
    step = FAR / OTHER_TIMERS
    others = [loop.call_later(FAR / 2 + step * i, print) for i in range(OTHER_TIMERS)]
    await measured(timer, loop, n)
    for other in others:
        other.cancel()


async def sleeps(loop, n):
    # Spread over 10 to 100 ms, as in the Rust programs.
    tasks = [loop.create_task(asyncio.sleep((10_000 + i * 7_919 % 90_000) / 1e6)) for i in range(n)]
    for task in tasks:
        await task


async def cross_thread(loop, n):
    acknowledged = queue.SimpleQueue()
    end = loop.create_future()
    total = 0

    def receive(i):
        nonlocal total
        total += i
        if i % BATCH == BATCH - 1:
            acknowledged.put(None)
        if i == n - 1:
            end.set_result(None)

    def send():
        for i in range(n):
            loop.call_soon_threadsafe(receive, i)
            if i % BATCH == BATCH - 1:
                acknowledged.get()

    sender = threading.Thread(target=send)
    sender.start()
    await end
    sender.join()
    assert total == n * (n - 1) // 2


MEASURES = {
    "spawn_await": spawn_await,
    "spawn_batch": spawn_batch,
    "yield": yield_between,
    "call_soon": call_soon,
    "timer": timer,
    "sleeps": sleeps,
    "cross_thread": cross_thread,
}


async def measured(measure, loop, n):
    await measure(loop, n // 10)
    before = time.process_time_ns()
    await measure(loop, n)
    print(f"{(time.process_time_ns() - before) / n:.3f}")


async def main(name, n):
    loop = asyncio.get_running_loop()
    if name == "timer_10000":
        await timer_among_others(loop, n)
    elif name in MEASURES:
        await measured(MEASURES[name], loop, n)
    else:
        sys.exit(NO_SUCH_MEASURE)


def new_event_loop(runtime):
    if runtime == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def run():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--measure", required=True)
    parser.add_argument("--operations", type=int, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop(arguments.runtime)) as runner:
        runner.run(main(arguments.measure, arguments.operations))


if __name__ == "__main__":
    run()
