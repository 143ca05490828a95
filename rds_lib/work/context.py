"""Values that hold for a block of code and all that it calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


@contextmanager
def holding(variable: ContextVar, value) -> Iterator[None]:
    """Let a context variable have a value until the block ends, however it ends."""
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)
