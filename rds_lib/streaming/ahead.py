"""Reading ahead: a thread takes items from an iterator before they are asked for."""

import weakref
from collections import deque
from collections.abc import Iterator
from threading import Condition, Event, Thread, current_thread

CLOSING = 2.0  # seconds that a thread has to end; one that is stuck in a driver or in foreign code is left to itself
_ITEM, _END, _ERROR = "item", "end", "error"


class Ahead:
    """The items of an iterator, read by a thread up to ``room`` of them ahead of whoever asks.

    What the iterator raises comes out where its item would have come. Nothing that was passed on is kept. The thread
    ends with the items, with `close`, and when nobody holds this object any more; it closes the iterator if that is
    a generator.

    Parameters
    ----------
    items : iterator
        Runs in the thread alone.
    room : int
        Items held at most, 1 or more.
    stopped : Event
        Set when reading is to stop; an iterator that waits for something must look at it.
    newest : bool
        Never wait for whoever asks: an item that was not asked for in time gives way to the next one.
    """

    def __init__(self, items: Iterator, room: int, stopped: Event, *, newest: bool = False):
        self._line = _Line(1 if newest else room, stopped, newest)
        self._thread = Thread(target=_fill, args=(self._line, items), name="frames ahead", daemon=True)
        self.close = weakref.finalize(self, _end, self._line, self._thread)
        self._thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        return self.get()

    def get(self, timeout: float | None = None):
        """The next item; `TimeoutError` if none has come after ``timeout`` seconds."""
        kind, value = self._line.take(timeout)
        if kind is _ITEM:
            return value
        self.close()
        raise value


class _Line:
    """Items on their way from one thread to another. The thread that fills it holds this, not its `Ahead`."""

    def __init__(self, room, stopped, newest):
        self.room, self.stopped, self.newest = room, stopped, newest
        self._items, self._changed = deque(), Condition()

    def wait_for_room(self):
        """Whether another item is wanted."""
        with self._changed:
            if not self.newest:
                self._changed.wait_for(lambda: len(self._items) < self.room or self.stopped.is_set())
            return not self.stopped.is_set()

    def put(self, kind, value):
        with self._changed:
            if self.newest and kind is _ITEM:
                self._items.clear()
            if not self.stopped.is_set():
                self._items.append((kind, value))
            self._changed.notify_all()

    def take(self, timeout):
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self.stopped.is_set(), timeout):
                raise TimeoutError
            kind, value = self._items.popleft() if self._items else (_END, StopIteration())
            self._changed.notify_all()
            return kind, value

    def stop(self):
        self.stopped.set()
        with self._changed:
            self._items.clear()
            self._changed.notify_all()


def _fill(line, items):
    """The work of the thread."""
    try:
        while line.wait_for_room():
            line.put(_ITEM, next(items))
    except StopIteration as end:
        line.put(_END, end)
    except BaseException as error:  # whatever it is, it belongs to whoever asks for the item
        line.put(_ERROR, error)
    finally:
        getattr(items, "close", lambda: None)()


def _end(line, thread):
    line.stop()
    if thread is not current_thread() and thread.ident:
        thread.join(CLOSING)
