"""The limit of a task's wall time: work counts, standing in line does not."""

import asyncio

import pytest

from services.ml_engineer.wall import WallTime


async def test_waiting_for_ones_turn_does_not_use_up_the_time_and_work_does() -> None:
    """The place is taken for longer than the limit, then the work itself takes too long: only that counts."""
    place = asyncio.Semaphore(1)
    await place.acquire()
    asyncio.get_running_loop().call_later(0.4, place.release)
    wall, had = WallTime(0.2), asyncio.Event()

    async def work() -> None:
        async with wall, wall.turn(place):
            had.set()
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await work()
    assert (had.is_set(), wall.over, place.locked()) == (True, True, False)


async def test_a_place_that_is_waited_for_in_vain_is_not_taken() -> None:
    """A cancel in line leaves the line."""
    place = asyncio.Lock()
    await place.acquire()

    async def wait() -> None:
        async with WallTime(None) as wall, wall.turn(place):
            pass

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    place.release()
    assert not place.locked()
