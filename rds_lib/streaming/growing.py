"""A folder of pictures that is still being filled."""

import logging
import re
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import SUFFIXES, list_frames, read_frame
from rds_lib.data.names import in_time_order
from rds_lib.streaming.patience import POLL, Patience

_CONTEXT = 30  # names kept to read new ones by: whether 1.10 comes after 1.9 is seen from several
_NUMBER = re.compile(r"\d+([.,]\d+)?")
_logger = logging.getLogger(__name__)


def growing_folder(
    folder: str | Path, patience: float, stopped: Event, poll: float = POLL
) -> Iterator[tuple[np.ndarray, Path]]:
    """Yield (frame, path) of the pictures of a folder in time order, as they come.

    What is there at first is read as `list_frames` has it. Then a new picture is given if its name sorts after that of
    the last one given; ``patience`` seconds without one are the end. A picture whose size changes or that does not
    decode is taken for one that is still being written, and waited for as long.

    Raises
    ------
    RDSInputError
        If no picture came at all, a picture did not become whole in time, or two names carry the same number.

    Warns
    -----
    UserWarning
        If a picture is passed over: one that came late, or one that is named unlike the others.
    """
    folder, pictures, count = Path(folder), _Pictures(folder), 0
    waiting = Patience(patience, stopped, poll)
    while True:
        path = pictures.next()
        if path is not None:
            frame = _whole(path, Patience(patience, stopped, poll))
            if frame is None:
                return
            yield frame, path
            del frame
            count += 1
            waiting.renew()
        elif not waiting.again():
            break
    if stopped.is_set():
        return
    if not count:
        why = "it holds no pictures" if folder.is_dir() else "there is no such folder"
        raise RDSInputError(f"{folder}: no frame came in {patience:g} s; {why}")
    _logger.info("%s: no new picture for %g s, the video ends after %d frames", folder, patience, count)


class _Pictures:
    """The pictures of a folder that were not given yet."""

    def __init__(self, folder):
        self._folder = folder
        self._seen, self._others = set(), set()  # names, and kinds of names that were warned of
        self._given, self._coming = deque(maxlen=_CONTEXT), []  # paths

    def next(self):
        """The next one in time, None if there is none yet."""
        new = self._new()
        if new and not self._seen:
            self._coming = list_frames(self._folder)
            self._seen.update(new, (path.name for path in self._coming))
        elif new:
            self._seen.update(new)
            self._add([self._folder / name for name in new])
        if not self._coming:
            return None
        self._given.append(self._coming.pop(0))
        return self._given[-1]

    def _new(self):
        try:
            names = {path.name for path in self._folder.iterdir()}
        except FileNotFoundError:
            return set()
        except OSError as cause:
            raise RDSInputError(f"{self._folder}: cannot be read ({cause.strerror})") from cause
        return {n for n in names - self._seen if n[0] != "." and Path(n).suffix.lower() in SUFFIXES}

    def _add(self, paths):
        """Put new pictures in their places, but for those that come too late or have another kind of name."""
        known = {path.stem: path for path in [*self._given, *self._coming]}
        new = self._of_one_series(known.values(), paths)
        stems = in_time_order([*known, *(path.stem for path in new)], self._folder)
        now = stems.index(self._given[-1].stem)
        late = [path for path in new if stems.index(path.stem) < now]
        for path in late:
            _warn(f"{path}: came after {self._given[-1].name}, before which it belongs; it is passed over")
        known.update((path.stem, path) for path in new)
        self._coming = [known[stem] for stem in stems[now + 1 :]]

    def _of_one_series(self, known, paths):
        """Without those of another type than the first, or of another name than most have, as `list_frames` does."""
        kinds = Counter(_kind(path)[0] for path in [*known, *paths])
        text, most = kinds.most_common(1)[0]
        is_common = "#" in text and 2 * most > kinds.total()
        kept = []
        for path in paths:
            kind = _kind(path)
            if kind[1] == _kind(self._given[0])[1] and (not is_common or kind[0] == text):
                kept.append(path)
            elif kind not in self._others:
                self._others.add(kind)
                _warn(f"{path}: left out with all of its kind, as not named like the other frames")
        return kept


def _kind(path):
    """What the pictures of one series share: the name without its numbers, and whether it is a PNG."""
    return _NUMBER.sub("#", path.stem), path.suffix.lower() == ".png"


def _warn(message):
    warnings.warn(message, stacklevel=2)


def _whole(path, waiting):
    """A picture as soon as it is whole; None if reading was stopped before."""
    while True:
        size = _size(path)
        try:
            frame, cause = read_frame(path), None
        except RDSInputError as error:
            frame, cause = None, error
        if cause is None and size == _size(path):
            return frame
        if not waiting.again():
            break
    if waiting.stopped.is_set():
        return None
    why = cause or f"{path}: its size still changes"
    raise RDSInputError(f"{why}; it was waited for {waiting.seconds:g} s, as if still being written") from cause


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return None
