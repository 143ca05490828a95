"""Video in and out: folders of frames, arrays and video files in, JPEG folders and overlay videos out."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from PIL import Image

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import decode_video
from rds_lib.data.images import IMAGE_MEAN, IMAGE_STD, ShortSide, image_size, list_frames, open_rgb, squeeze

_kept: "KeptFrames | None" = None  # in force inside `kept_frames`


class KeptFrames:
    """Model-sized frames of folders, held in memory: first come, first kept, up to ``room`` bytes."""

    def __init__(self, room: int):
        self.room, self._videos = room, {}

    def get(self, folder: str | Path, image_size: int | ShortSide) -> tuple[torch.Tensor, int, int]:
        """What `load_video` gives for a folder, from memory where it was kept."""
        key = str(folder), image_size
        if key in self._videos:
            return self._videos[key]
        video = _load(folder, image_size)
        if video[0].nbytes <= self.room:
            self._videos[key] = video
            self.room -= video[0].nbytes
        else:
            self.room = 0
        return video

    def fill(self, folder: str | Path, image_size: int | ShortSide) -> None:
        """Keep a folder's frames now if there is room, so that processes forked later find them."""
        if self.room:
            self.get(folder, image_size)


@contextmanager
def kept_frames(room: int = 2**30) -> Iterator[KeptFrames]:
    """Let `load_video` decode each folder once while the block runs; nobody may write into the frames it returns."""
    global _kept
    before, _kept = _kept, KeptFrames(room)
    try:
        yield _kept
    finally:
        _kept = before


def load_video(
    video, image_size: int | ShortSide, *, start: int = 0, stop: int | None = None
) -> tuple[torch.Tensor, int, int]:
    """Load a video as SAM2 wants it: resized to a square, scaled to [0, 1] and normalised.

    Parameters
    ----------
    video : path, ndarray or sequence
        A folder of JPEG or PNG frames under any names that sort, a video file (see `container.VIDEO_FORMATS`), an
        array (T, H, W, 3) uint8 RGB, or a sequence of such frames or of paths.
    image_size : int or ShortSide
        Side S of the model's input in px; with a `ShortSide` frames keep their shape, so S, S become its sides.
    start, stop : int
        Load frames ``start <= t < stop`` only.

    Returns
    -------
    images : Tensor, shape (T, 3, S, S), float32
        For a folder of JPEG files equal to ``sam2.utils.misc.load_video_frames``, bit for bit, unless a file has
        an EXIF orientation, which is applied here.
    height, width : int
        Size of the video in px.

    Raises
    ------
    RDSInputError
        If there is nothing to load, a frame cannot be read, or two frames differ in size.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise RDSInputError(f"frames {start} to {stop}: expected 0 <= start < stop")
    is_folder = isinstance(video, (str, os.PathLike)) and Path(video).is_dir()
    if _kept is not None and is_folder and not start and stop is None:
        return _kept.get(video, image_size)
    return _load(video, image_size, start, stop)


class LoadingFrames:
    """The frames of a video as `load_video` gives them, loaded by a thread while tracking begins.

    Item t waits for frame t alone; what is wrong with a frame is said when it is asked for.
    """

    def __init__(self, frames: list, image_size: int, device):
        self._frames, self._image_size, self._device = list(enumerate(frames)), image_size, device
        self._loaded = [None] * len(frames)
        self._first = None  # name and (W, H)
        self[0]
        Thread(target=self._load_all, daemon=True).start()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px of the video."""
        return self._first[1][::-1]

    def __len__(self):
        return len(self._loaded)

    def __getitem__(self, t: int) -> torch.Tensor:
        if self._loaded[t] is None:
            shrunk = shrink_frame(self._frames[t], self._image_size)
            self._first = self._first or shrunk
            self._loaded[t] = normalise(_of_one_size([self._first, shrunk])[1:])[0].to(self._device)
        return self._loaded[t]

    def _load_all(self):
        with suppress(RDSInputError):
            for t in range(len(self)):
                self[t]


def start_loading(video, image_size: int, device="cpu") -> tuple[LoadingFrames | torch.Tensor, int, int]:
    """As `load_video`, but returns after the first frame; a video file, whose frames must be counted, is read whole."""
    if _is_file(video):
        images, height, width = load_video(video, image_size)
        return images.to(device), height, width
    frames = list_frames(video) if isinstance(video, (str, os.PathLike)) else list(video)
    if not frames:
        raise RDSInputError("a video without frames; give at least one")
    images = LoadingFrames(frames, image_size, device)
    return images, *images.size


def _is_file(video):
    return isinstance(video, (str, os.PathLike)) and not Path(video).is_dir()


def _load(video, image_size, start=0, stop=None):
    shrink = partial(shrink_frame, image_size=image_size)
    if _is_file(video):
        shrunk = [shrink(frame) for frame in decode_video(video, start, stop)]
    else:
        frames = list(enumerate(list_frames(video) if isinstance(video, (str, os.PathLike)) else video))
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            shrunk = list(pool.map(shrink, frames[start:stop]))
    if not shrunk:
        raise RDSInputError(f"no frames from {start} on; the video ends before")
    width, height = shrunk[0][1]
    return normalise(_of_one_size(shrunk)), height, width


def _of_one_size(shrunk):
    """The squares of frames, once it is sure that all have the size of the first."""
    width, height = shrunk[0][1]
    for name, size, _ in shrunk:
        if size != (width, height):
            raise RDSInputError(
                f"{name}: {size[0]}x{size[1]} px, but the first frame has {width}x{height}; give all frames one size"
            )
    return [square for *_, square in shrunk]


def shrink_frame(indexed_frame, image_size):
    """One frame, an index and a path or an array -> its name for messages, size (W, H), and square (S, S, 3) uint8."""
    t, frame = indexed_frame
    if isinstance(frame, (str, os.PathLike)):
        name, image = frame, open_rgb(frame)
    else:
        name, frame = f"frame {t}", np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise RDSInputError(f"{name}: {frame.shape} {frame.dtype}; expected (H, W, 3) uint8 RGB")
        image = Image.fromarray(frame)
    return name, image.size, squeeze(image, image_size)


def normalise(pixels):
    """Frames (S, S, 3) uint8 -> (T, 3, S, S) float32, in the order of operations that gives stock SAM2's bits."""
    images = torch.empty(len(pixels), 3, *pixels[0].shape[:2])
    for image, frame in zip(images, pixels):
        image.copy_(torch.from_numpy(frame / np.float32(255)).permute(2, 0, 1))
    images -= torch.tensor(IMAGE_MEAN)[:, None, None]
    images /= torch.tensor(IMAGE_STD)[:, None, None]
    return images


def video_size(video: str | Path) -> tuple[int, int]:
    """(H, W) in px of a folder of frames or a video file, as its first frame has it."""
    if Path(video).is_dir():
        return image_size(list_frames(video)[0])
    for _, frame in decode_video(video, stop=1):
        return frame.shape[:2]
    raise RDSInputError(f"{video}: holds no frames")


def extract_frames(video: str | Path, folder: str | Path) -> list[Path]:
    """Write a video file's frames as ``00000.jpg``, ``00001.jpg``, ... (quality 95, no chroma subsampling).

    The folder appears whole or not at all, and must not exist yet.
    """
    folder = Path(folder)
    if folder.exists():
        raise RDSInputError(f"{folder}: already there; delete it or choose another folder")
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for t, frame in decode_video(video):
            Image.fromarray(frame).save(temporary / f"{t:05d}.jpg", quality=95, subsampling=0)
        list_frames(temporary)
    return list_frames(folder)
