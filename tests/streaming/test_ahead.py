"""Reading ahead: how far, what is kept, where errors come out, and that no thread is left."""

import gc
import threading
import weakref
from threading import Event

import pytest

from rds_lib.streaming import ahead as module
from rds_lib.streaming.ahead import Ahead


class Item:
    """Something that can be watched."""


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "frames ahead"]


def test_items_come_in_order_and_then_the_end():
    reader = Ahead(iter(range(20)), 3, Event())
    assert list(reader) == list(range(20))
    assert list(reader) == [] and threads() == []


@pytest.mark.parametrize("room", [1, 4])
def test_it_reads_so_far_ahead_and_no_further(room, until):
    read = []
    reader = Ahead((read.append(t) or t for t in range(50)), room, Event())
    until(lambda: len(read) == room)
    for t in range(5):
        assert next(reader) == t
        until(lambda t=t: len(read) == t + 1 + room)
        Event().wait(0.01)
        assert len(read) == t + 1 + room
    reader.close()


def test_what_was_passed_on_is_dropped(until):
    alive = weakref.WeakSet()

    def frames():
        for _ in range(30):
            item = Item()
            alive.add(item)
            yield item
            del item

    reader, most = Ahead(frames(), 4, Event()), 0
    for item in reader:  # noqa: B007, it is held while the next ones are read
        until(lambda: len(alive) <= 5)
        most = max(most, len(alive))
    assert most <= 5  # the one in hand and four ahead
    del item
    gc.collect()
    assert len(alive) == 0


def test_an_error_comes_out_at_its_place_and_unchanged(until):
    error = OSError("gone")

    def items():
        yield from range(3)
        raise error

    reader, got = Ahead(items(), 8, Event()), []
    until(lambda: not threads())  # it has failed already, three items before it is asked for
    with pytest.raises(OSError) as caught:
        for item in reader:
            got.append(item)
    assert got == [0, 1, 2] and caught.value is error
    assert next(reader, "end") == "end"


def test_closing_early_ends_the_thread_and_closes_the_generator_in_it():
    closed = []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    reader = Ahead(items(), 2, Event())
    assert next(reader) == 0
    reader.close()
    reader.close()
    assert threads() == [] and closed == ["frames ahead"]
    assert next(reader, "end") == "end"


def test_a_reader_that_nobody_holds_any_more_ends():
    reader = Ahead(iter(lambda: 0, 1), 2, Event())
    next(reader)
    del reader
    gc.collect()
    assert threads() == []


def test_a_source_that_waits_is_woken():
    stopped = Event()

    def items():
        yield 0
        stopped.wait(60)

    reader = Ahead(items(), 2, stopped)
    next(reader)
    reader.close()
    assert threads() == []


def test_a_source_that_hangs_is_left_to_itself(monkeypatch, until):
    monkeypatch.setattr(module, "CLOSING", 0.05)
    released = Event()

    def items():
        yield 0
        released.wait(60)
        yield 1

    reader = Ahead(items(), 2, Event())
    next(reader)
    reader.close()
    assert len(threads()) == 1
    released.set()
    until(lambda: not threads())


def test_the_newest_is_kept_if_nobody_asks(until):
    made, go_on = [], threading.Semaphore(0)

    def items():
        for t in range(10):
            made.append(t)
            yield t
            go_on.acquire()
        raise OSError("unplugged")

    reader = Ahead(items(), 4, Event(), newest=True)
    for _ in range(6):
        go_on.release()
    until(lambda: len(made) == 7)
    Event().wait(0.01)
    assert reader.get() == 6
    for _ in range(4):
        go_on.release()
    until(lambda: not threads())
    assert reader.get() == 9  # an error does not push out the last frame before it
    with pytest.raises(OSError, match="unplugged"):
        reader.get()


def test_waiting_for_an_item_has_an_end():
    stopped = Event()
    reader = Ahead((stopped.wait(60) for _ in range(1)), 1, stopped)
    with pytest.raises(TimeoutError):
        reader.get(timeout=0.02)
    reader.close()
