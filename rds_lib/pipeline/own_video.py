"""A video of the reader's own: what it is prompted with, and a sample for those who have none at hand."""

from pathlib import Path

import cv2

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.images import present_labels, read_mask, save_palette_png


def first_prompts(size: tuple[int, int], *, mask: str | Path = "", box=(), click=()) -> dict[int, dict]:
    """Prompts for ``track_video`` from one of a mask file, a box or a click.

    Parameters
    ----------
    size : (int, int)
        Height and width of the video, px.
    mask : path
        PNG with one index per object, or black and white; "" if another prompt is given.
    box : sequence of four numbers, or of such sequences, one per object
        x0, y0, x1, y1 in px.
    click : sequence of two numbers, or of such sequences, one per object
        x, y in px.

    Raises
    ------
    RDSInputError
        If not exactly one of the three is given, or the mask is empty.
    """
    if [bool(mask), len(box) > 0, len(click) > 0].count(True) != 1:
        raise RDSInputError(
            "say what to track, in one way: --mask FILE, --box x0,y0,x1,y1 or --click x,y (Python: mask, box or click)"
        )
    if len(box):
        return {n: {"box": list(one)} for n, one in enumerate(_rows(box), start=1)}
    if len(click):
        return {n: {"points": [list(one)], "labels": [1]} for n, one in enumerate(_rows(click), start=1)}
    labels = read_mask(mask, size)
    ids = present_labels(labels)
    if not ids:
        raise RDSInputError(f"{mask}: the mask is empty; draw at least one object in it")
    return {obj_id: {"mask": labels == obj_id} for obj_id in ids}


def sample_video(folder: Path, *, frames: int = 16, height: int = 180, width: int = 320) -> tuple[Path, Path]:
    """Write a generated clip as a folder of JPEG frames and the mask of its first frame; returns both paths."""
    clip = generate_clip(11, 3, split="val", frames=frames, height=height, width=width, difficulty="plain", n_objects=2)
    images = folder / "frames"
    images.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip.frames):
        cv2.imwrite(str(images / f"{t:05d}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    save_palette_png(folder / "first_mask.png", clip.masks[0])
    return images, folder / "first_mask.png"


def _rows(numbers):
    return numbers if hasattr(numbers[0], "__len__") else [numbers]
