"""Processes that end together: children with their parent, and a command on SIGTERM as tidily as on an interrupt."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PARENT_ENDS = 1  # PR_SET_PDEATHSIG of Linux's prctl
RUNNERS = ("DVC_STAGE", "TORCHELASTIC_RUN_ID")  # set in the processes that DVC and torchrun start


def end_with(parent: int) -> None:
    """End this process, killed, when the one that started it ends; at once if that is not ``parent`` any more.

    Linux does it by itself; elsewhere a thread looks five times a second.
    """
    try:
        ctypes.CDLL(None).prctl(PARENT_ENDS, signal.SIGKILL)
    except (AttributeError, OSError, TypeError):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def begin_command() -> None:
    """What a command does first: SIGTERM ends it as an exception does, and under DVC or torchrun it ends with them."""
    signal.signal(signal.SIGTERM, stop)
    if any(name in os.environ for name in RUNNERS):
        parent = os.getppid()
        with suppress(OSError):  # whoever adopted an orphan belongs to another session; torchrun gives each its own
            leads = os.getsid(0) == os.getpid()
            parent = parent if leads or os.getsid(parent) == os.getsid(0) else -1
        end_with(parent)


def stop(*_) -> None:
    """Handle SIGTERM: what is half written is removed on the way out; the exit code is the shell's, 143."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(128 + signal.SIGTERM)


def _raising() -> dict[int, Callable]:
    """What handles Ctrl-C and SIGTERM, where that raises something; outside of the main thread none of them arrive."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if callable(handler)}


@contextmanager
def _handled_by(handle: Callable, handlers: dict[int, Callable]) -> Iterator[None]:
    """Have ``handle`` in the place of handlers until the block ends."""
    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM, where they raise something, wait for the end of the block: what it writes is whole."""
    handlers, waiting = _raising(), {}
    try:
        with _handled_by(lambda *arguments: waiting.setdefault(arguments[0], arguments), handlers):
            yield
    finally:
        for number, arguments in waiting.items():
            handlers[number](*arguments)


class Stops:
    """What Ctrl-C and SIGTERM do while `stopped_once` holds."""

    def __init__(self, handlers: dict[int, Callable]):
        self._may_raise, self._handlers, self._waiting = True, handlers, None

    @contextmanager
    def again(self) -> Iterator[None]:
        """Let one more of them end the block, which makes what can be done without."""
        try:
            self._may_raise = True
            yield
        finally:
            self._may_raise = False

    def no_more(self) -> None:
        """From here on what comes waits for the end."""
        self._may_raise = False

    def handle(self, number, frame) -> None:
        """Raise what the handler before would, if that may be; once."""
        if self._may_raise:
            self._may_raise = False
            try:
                self._handlers[number](number, frame)
            finally:
                signal.signal(number, self.handle)  # `stop` takes itself off
        elif self._waiting is None:
            self._waiting = number, frame


@contextmanager
def stopped_once() -> Iterator[Stops]:
    """Have Ctrl-C or SIGTERM stop the block once; a second one, while it puts things in order, does nothing to it.

    One that came after `Stops.no_more`, with nothing stopped before, stops what follows the block.
    """
    stops = Stops(handlers := _raising())
    with _handled_by(stops.handle, handlers):
        yield stops
    if stops._waiting is not None:
        handlers[stops._waiting[0]](*stops._waiting)


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
