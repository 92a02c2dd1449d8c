"""Follows a task on the bus in a test: until an event comes, with the history as evidence when it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from contracts import subjects
from contracts.envelope import TaskEvent, read_event
from contracts.task import TaskState, fold
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer

T = TypeVar("T")


async def history(bus: Bus, task: str) -> list[TaskEvent]:
    """The task's events."""
    return [read_event(stored) for stored in await bus.history(task)]


async def state(bus: Bus, task: str) -> TaskState:
    """The task's fold."""
    return fold(task, await history(bus, task))


async def until(bus: Bus, task: str, reached: Callable[[TaskEvent], bool], *, within_s: float = 60) -> TaskEvent:
    """The first event that is what is waited for, old or new."""
    seen: list[TaskEvent] = []
    stop = asyncio.Event()
    consumer = OrderedConsumer(bus, subjects.TASKS, subjects.task_history(task))
    try:
        async with asyncio.timeout(within_s):
            async for stored in consumer.run(stop):
                event = read_event(stored)
                seen.append(event)
                if reached(event):
                    return event
    except TimeoutError:
        pass
    finally:
        stop.set()
    told = "\n".join(f"{event.seq} {event.event} {str(event.body)[:200]}" for event in seen)
    raise AssertionError(f"not reached within {within_s:g} s; the task's history:\n{told}")


async def eventually(look: Callable[[], Awaitable[T | None]], *, within_s: float = 15) -> T:
    """The first truthy thing that `look` returns."""
    async with asyncio.timeout(within_s):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.02)


def is_event(*names: str) -> Callable[[TaskEvent], bool]:
    """Events of these names."""
    return lambda event: event.event in names


def is_step(name: str) -> Callable[[TaskEvent], bool]:
    """The record of a step."""
    return lambda event: event.event == "step" and getattr(event.body, "name", "") == name


def is_progress(step: str) -> Callable[[TaskEvent], bool]:
    """Progress of a step: it is running."""
    return lambda event: event.event == "progressed" and getattr(event.body, "step", "") == step


FINAL = is_event("completed", "failed", "canceled")
