"""How a tracker starts a session that is given its frames one by one."""

from rds_lib.routing.pace import pace_of
from rds_lib.routing.session import TrackingSession


class StartsSessions:
    """Gives a tracker its ``start``."""

    def start(
        self,
        *,
        history: int | None = 0,
        num_frames: int | None = None,
        fps: float | None = None,
        counts_between: bool = False,
    ) -> TrackingSession:
        """Start a session that is given its frames one by one; see `session.TrackingSession`.

        ``fps`` is a frame rate to hold, by the number of blocks on each routed frame; ``counts_between`` as of
        `pace.Pace`. A `DinoTracker` takes corrections on the last frame alone, has no use for ``num_frames``, and
        refuses ``fps``.
        """
        pace = None if fps is None else pace_of(self, fps, counts_between=counts_between)
        return TrackingSession(self, history=history, num_frames=num_frames, pace=pace)
