"""The files of a tracked video, written frame by frame: masks, routes.csv, overlay.mp4, and the page at the end.

What is held in memory does not grow with the video: sums, and what the page shows of `MOST_SHOWN` frames at most.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rds_lib.core.artifacts import write_text
from rds_lib.data.images import read_labels, write_palette_png
from rds_lib.evaluation.recordings import ROUTE, Recording, Run
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.route_table import FrameRoute
from rds_lib.show.inspector.data import SIDES
from rds_lib.show.inspector.page import inspector_page
from rds_lib.show.paint import OverlayVideo, fitted

MARKER = "routes.csv"
OVERLAY, PAGE = "overlay.mp4", "inspector.html"
MOST_SHOWN = 1000  # frames of a page; of a longer video it shows every second one, every fourth, ...
NOT_TRACKED = "not tracked"  # the reason of a frame on which nothing ran


class _Shown(NamedTuple):
    """What the page needs of a frame."""

    picture: Path
    mask: Path
    route: FrameRoute | None


class TrackFiles:
    """The files of one tracked video in a folder; close it, and they are whole up to the last frame.

    Parameters
    ----------
    folder : Path
        Where nothing else is written meanwhile.
    rate : callable, optional
        Returns the frames a second of ``overlay.mp4`` when the first frame is there; None for no overlay.

    Attributes
    ----------
    count : int
        Frames that are whole: mask, routes and overlay.
    tracked, routed, lost : int
        How many of them were tracked; of these, how many a router chose blocks for, and on how many all ran because
        the one before showed no object.
    every : int
        The page shows one frame in so many.
    """

    def __init__(self, folder: Path, *, rate: Callable[[], float] | None = None):
        self.folder, self.count, self.every = folder, 0, 1
        self.tracked, self.routed, self.lost = 0, 0, 0
        self._shown, self._blocks, self._blocks_routed = [], 0, 0
        self._pictures = folder / ".frames"  # for the page, where the source has no files; goes with `close`
        self._routes = (folder / MARKER).open("wb")
        self._routes.write(f"{','.join(ROUTE)}\n".encode())
        self._rate, self._overlay = rate, None

    def add(self, frame: np.ndarray, picture: Path | None, labels: np.ndarray, route: FrameRoute | None) -> None:
        """Write a frame: all of it, or an error and nothing of it.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
        picture : Path or None
            The file that it came from, whose name the mask gets; None for a frame without one.
        labels : ndarray, shape (H, W), uint8
        route : FrameRoute or None
            None where nothing ran; such a frame has no rows in ``routes.csv``.
        """
        mask = self.folder / f"{f'{self.count:05d}' if picture is None else picture.stem}.png"
        end = self._routes.tell()
        try:
            self._routes.write(_rows(self.count, route))
            self._routes.flush()
            write_palette_png(mask, labels)
        except BaseException:
            self._routes.truncate(self._routes.seek(end))
            mask.unlink(missing_ok=True)
            raise
        with self._or_no_overlay():
            if not self.count and self._rate is not None:
                self._overlay = OverlayVideo(self.folder / OVERLAY, fps=self._rate())
            if self._overlay is not None:
                self._overlay.add(frame, labels)
        if not self.count % self.every:
            self._show(frame, picture, mask, route)
        self._sum(route)
        self.count += 1

    @property
    def active_blocks(self) -> float:
        """Mean active blocks over all tracked frames."""
        return self._blocks / self.tracked if self.tracked else 0.0

    @property
    def routed_blocks(self) -> float:
        """Mean active blocks over the frames that were routed."""
        return self._blocks_routed / self.routed if self.routed else 0.0

    def close(self) -> None:
        """End the table and the overlay; after a stop in the middle too, and twice does no harm."""
        self._routes.close()
        if self._overlay is not None:
            with self._or_no_overlay():
                self._overlay.close()
            self._overlay = None

    def write_page(self, name: str, run: str, obj_ids: Sequence[int], shape: EncoderShape, summary: str) -> None:
        """Write ``inspector.html`` from the masks that were written; where that fails, a warning stands in its place.

        Call it last: what only the page needed is removed.
        """
        try:
            with extra(PAGE):
                recording = self._recording(name, run, obj_ids, shape)
                shown = f" One frame in {self.every} is shown." if self.every > 1 else ""
                page = inspector_page([recording], (), title=name, summary=f"{summary}.{shown}")
                write_text(self.folder / PAGE, page)
        finally:
            shutil.rmtree(self._pictures, ignore_errors=True)

    @contextmanager
    def _or_no_overlay(self):
        """Warn of an overlay that fails, and go on without it."""
        with extra(OVERLAY):
            try:
                yield
            except Exception:
                with suppress(Exception):
                    self._overlay.close()
                self._overlay = None
                (self.folder / OVERLAY).unlink(missing_ok=True)
                raise

    def _show(self, frame, picture, mask, route):
        """Keep a frame for the page; when it is one too many, every second one goes."""
        if picture is None:
            self._pictures.mkdir(exist_ok=True)
            picture = self._pictures / f"{mask.stem}.jpg"
            small = fitted(frame, SIDES[0])[..., ::-1]
            cv2.imwrite(str(picture), small, [cv2.IMWRITE_JPEG_QUALITY, 90])
        self._shown.append(_Shown(picture, mask, route))
        if len(self._shown) > MOST_SHOWN:
            for gone in self._shown[1::2]:
                if gone.picture.parent == self._pictures:
                    gone.picture.unlink(missing_ok=True)
            del self._shown[1::2]
            self.every *= 2

    def _sum(self, route):
        if route is None:
            return
        blocks = sum(route.active)
        self.tracked, self._blocks = self.tracked + 1, self._blocks + blocks
        if route.reason == "routed":
            self.routed, self._blocks_routed = self.routed + 1, self._blocks_routed + blocks
        self.lost += route.reason == "no_previous_mask"

    def _recording(self, name, run, obj_ids, shape) -> Recording:
        nothing = FrameRoute((False,) * shape.depth, (0.0,) * shape.depth, NOT_TRACKED)
        routes = [one.route or nothing for one in self._shown]
        active, keep_prob = (np.array([getattr(route, key) for route in routes]) for key in ("active", "keep_prob"))
        masks = _LabelFiles([one.mask for one in self._shown])
        made = Run(run, masks, active.astype(bool), keep_prob, tuple(route.reason for route in routes), {})
        return Recording(name, tuple(one.picture for one in self._shown), tuple(obj_ids), shape, (made,))


class _LabelFiles(Sequence):
    """Label maps of PNG files, each read when it is asked for."""

    def __init__(self, paths):
        self._paths = paths

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, t):
        return read_labels(self._paths[t])


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Let a file fail that only shows the result, so that the result is not lost with it."""
    try:
        yield
    except Exception as error:
        why = str(error).partition("\n")[0]
        warnings.warn(f"{name} could not be written ({type(error).__name__}: {why}); all else was", stacklevel=3)


def _rows(t, route) -> bytes:
    """Rows of ``routes.csv``, as pandas writes them."""
    if route is None:
        return b""
    pairs = enumerate(zip(route.active, route.keep_prob))
    rows = [f"{t},{block},{bool(active)},{float(keep)!r},{route.reason}\n" for block, (active, keep) in pairs]
    return "".join(rows).encode()
