"""How long to wait for what may still come."""

import time
from threading import Event

POLL = 0.03  # seconds between two looks at what grows


class Patience:
    """Waits in short pauses, ``seconds`` at most since it was made or `renew` was called.

    Parameters
    ----------
    seconds : float
        May be infinite.
    stopped : Event
        Ends the waiting at once.
    poll : float
        One pause, in seconds.
    """

    def __init__(self, seconds: float, stopped: Event, poll: float = POLL):
        self.seconds, self.stopped, self._poll = seconds, stopped, poll
        self.renew()

    def renew(self) -> None:
        """Something came: the time begins again."""
        self._since = time.monotonic()

    def again(self) -> bool:
        """Pause, then say whether to look once more."""
        if self.stopped.is_set() or time.monotonic() - self._since >= self.seconds:
            return False
        self.stopped.wait(self._poll)
        return not self.stopped.is_set()
