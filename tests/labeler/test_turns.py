"""Work is done in turns, in one thread beside the event loop."""

import asyncio
import threading

import pytest

from labeler.turns import Turns
from preferences.errors import NotReady


def test_work_is_done_in_the_order_of_asking_by_one_other_thread() -> None:
    done, threads = [], set()

    def work(number: int) -> int:
        done.append(number)
        threads.add(threading.get_ident())
        return -number

    async def ask() -> list[int]:
        turns = Turns("test")
        return await asyncio.gather(*(turns.take(work, number) for number in range(20)))

    assert asyncio.run(ask()) == [-number for number in range(20)]
    assert done == list(range(20))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def ask() -> bool:
        loop_went_on = threading.Event()
        waiting = asyncio.ensure_future(Turns("test").take(loop_went_on.wait, 10))
        await asyncio.sleep(0)
        loop_went_on.set()
        return await waiting

    assert asyncio.run(ask())


def test_what_work_raises_is_raised_to_whoever_asked_and_the_next_has_its_turn() -> None:
    def fail() -> None:
        raise NotReady("Not yet.")

    async def ask() -> int:
        turns = Turns("test")
        with pytest.raises(NotReady, match="Not yet"):
            await turns.take(fail)
        return await turns.take(len, "abc")

    assert asyncio.run(ask()) == 3


def test_what_nobody_waits_for_has_its_turn_last() -> None:
    done: list[str] = []
    may_begin = threading.Event()

    async def ask() -> None:
        turns = Turns("test")
        begun = asyncio.ensure_future(turns.take(may_begin.wait, 10))
        await asyncio.sleep(0)
        patient = [asyncio.ensure_future(turns.take_last(done.append, name)) for name in ("ahead 1", "ahead 2")]
        waiting = [asyncio.ensure_future(turns.take(done.append, name)) for name in ("submit 1", "submit 2")]
        await asyncio.sleep(0)
        may_begin.set()
        await asyncio.gather(begun, *patient, *waiting)

    asyncio.run(ask())
    assert done == ["submit 1", "submit 2", "ahead 1", "ahead 2"]
