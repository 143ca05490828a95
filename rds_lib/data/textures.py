"""Where the looks of generated clips come from: pictures, split so that no two splits share one, and outlines.

Pictures are photographs of the scikit-image wheel, those of a folder of BSDS500 where one is given, and drawn scenes.
Objects are cut from BSDS500's hand-drawn region maps, or drawn.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data.scenes import SCENES, scene

PHOTOS = {
    "train": (
        "chelsea.png coffee.png rocket.jpg grass.png gravel.png coins.png camera.png ihc.png page.png cell.png "
        "microaneurysms.png"
    ).split(),
    "calibration": "hubble_deep_field.jpg motorcycle_left.png brick.png".split(),
    "val": "astronaut.png retina.jpg moon.png text.png clock_motion.png".split(),
}
MAX_SIDE = 640  # px; larger photographs are reduced once, when read
BSDS_SPLITS = {  # our split -> BSDS500's folders, and which of their photographs
    "train": (("train", "test"), slice(None)),
    "calibration": (("val",), slice(0, None, 2)),
    "val": (("val",), slice(1, None, 2)),
}


class Picture(NamedTuple):
    """A picture that textures and backgrounds are cropped from; it is read or drawn when it is first looked at."""

    name: str
    load: Callable[[], np.ndarray]

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self.load()


@cache
def pictures(split: str) -> tuple[Picture, ...]:
    """The photographs of one split that the scikit-image wheel brings along."""
    if split not in PHOTOS:
        raise RDSInputError(f"split {split!r} is unknown; choose one of {sorted(PHOTOS)}")
    return tuple(_photograph(Path(str(files("skimage") / "data" / name))) for name in PHOTOS[split])


@cache
def more_pictures(split: str, root: str = "") -> tuple[Picture, ...]:
    """What the wider sets are drawn from: a folder's photographs; without one the wheels' and drawn scenes.

    Parameters
    ----------
    split : {"train", "calibration", "val"}
        No two splits share a picture.
    root : str
        A folder that is laid out as BSDS500; "" for none. Its ``images/train`` and ``images/test`` serve ``train``,
        every other one of ``images/val`` serves ``calibration``, and the rest ``val``.

    Raises
    ------
    RDSInputError
        If there is a root, and no photograph of the split in it.
    """
    if root:
        return tuple(_photograph(path, path.stem) for path in _bsds_paths(root, split))
    drawn = tuple(Picture(f"{split} scene {n}", partial(scene, split, n)) for n in range(SCENES[split]))
    return pictures(split) + (_grace_hopper() if split == "val" else ()) + drawn


def _grace_hopper():
    """The one photograph that the matplotlib wheel brings along."""
    return (_photograph(Path(str(files("matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg"))),)


def _photograph(path, name=""):
    return Picture(name or path.name, partial(_read_rgb, path))


@cache
def _read_rgb(path: Path) -> np.ndarray:
    try:
        image = np.asarray(Image.open(path).convert("RGB"))
    except OSError as cause:
        raise RDSInputError(f"{path} is missing or not an image; reinstall the package that ships it") from cause
    scale = MAX_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image


def _bsds_paths(root, split):
    parts, which = BSDS_SPLITS[split]
    paths = [path for part in parts for path in sorted((Path(root) / "images" / part).glob("*.jpg"))][which]
    if not paths:
        raise RDSInputError(f"{root} holds no images/{parts[0]}/*.jpg; give the root of BSDS500 or of a folder like it")
    return paths


class Region(NamedTuple):
    """An object-like region: ``photo`` (H, W, 3), its ``mask`` (h, w) uint8 0 or 255, and the mask's place there."""

    name: str  # of the photograph
    photo: np.ndarray
    mask: np.ndarray
    y: int
    x: int

    @property
    def rgb(self) -> np.ndarray:
        """The photograph's pixels under the mask's rectangle, (h, w, 3)."""
        h, w = self.mask.shape
        return self.photo[self.y : self.y + h, self.x : self.x + w]


@cache
def bsds_objects(root: str, split: str) -> tuple[Region, ...]:
    """The object-like regions of a split's photographs in BSDS500; () where the folder has no region maps.

    A region is kept if it covers 1.5 to 35 % of its photograph, is solid (area over convex hull at least .55) and
    touches at most one border. The first annotator's map is used.
    """
    from scipy.io import loadmat

    found = []
    for path in _bsds_paths(root, split):
        outlines = Path(root) / "groundTruth" / path.parent.name / f"{path.stem}.mat"
        if not outlines.is_file():
            continue
        photo = _read_rgb(path)
        regions = loadmat(outlines)["groundTruth"][0, 0]["Segmentation"][0, 0]
        for label in range(1, int(regions.max()) + 1):
            mask = (regions == label).astype(np.uint8)
            if _is_object_like(mask):
                x, y, w, h = cv2.boundingRect(mask)
                found.append(Region(path.stem, photo, mask[y : y + h, x : x + w] * 255, y, x))
    return tuple(found)


def _is_object_like(mask: np.ndarray) -> bool:
    share = mask.mean()
    if not 0.015 < share < 0.35:
        return False
    borders = sum(bool(edge.any()) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(outlines)))
    return borders <= 1 and mask.sum() > 0.55 * hull


def crop_texture(rng: np.random.Generator, photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random crop of a photo, 40 to 100 % of its shorter side, mirrored at random, resized to (height, width)."""
    share = rng.uniform(0.4, 1.0)
    h = int(min(photo.shape[0], photo.shape[1] * height / width) * share)
    w = int(min(photo.shape[1], h * width / height))
    y, x = (int(rng.integers(0, full - part + 1)) for full, part in zip(photo.shape[:2], (h, w)))
    patch = photo[y : y + h, x : x + w]
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    shrink = h > height
    return cv2.resize(
        np.ascontiguousarray(patch), (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )


def fill_hole(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill ``hole`` (H, W) bool of an image (H, W, 3) uint8 smoothly, with means of ever wider neighbourhoods."""
    weight = (~hole).astype(np.float32)[..., None]
    levels = [np.concatenate([image * weight, weight], -1)]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    filled = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-3)
    for level in reversed(levels[:-1]):
        filled = cv2.pyrUp(filled, dstsize=level.shape[1::-1])
        filled = filled * (1 - level[..., 3:]) + level[..., :3]
    return np.clip(filled, 0, 255).astype(np.uint8)


def jitter_colour(rng: np.random.Generator, image: np.ndarray, *, strength: float = 0.35) -> np.ndarray:
    """Random gain and offset per channel; so two crops of one photo look different."""
    gain = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    offset = rng.uniform(-60, 60, 3).astype(np.float32) * strength
    mixed = image.astype(np.float32) * gain + offset
    if rng.random() < 0.3:
        mixed = mixed[..., rng.permutation(3)]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def procedural_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured noise in three octaves, sometimes striped; uint8 (height, width, 3)."""
    image = np.full((height, width, 3), rng.uniform(40, 215, 3), np.float32)
    for cells, amplitude in ((3, 60.0), (8, 40.0), (24, 25.0)):
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        image += amplitude * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
        image += wave[..., None] * rng.uniform(-70, 70, 3).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def blob_mask(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random star-shaped outline, at times with limbs; uint8 (size, size), 0 or 255."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = np.ones_like(angles)
    for k in range(2, 7):
        radius += rng.normal(0, 0.28 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.35, None)
    radius *= rng.uniform(0.55, 0.92) * size / 2 / radius.max()
    stretch = rng.uniform(0.55, 1.0, 2)
    points = np.stack([np.cos(angles) * radius * stretch[0], np.sin(angles) * radius * stretch[1]], -1) + size / 2
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    for _ in range(int(rng.integers(0, 4))):
        theta, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.47) * size
        tip = (size / 2 + length * np.cos(theta), size / 2 + length * np.sin(theta))
        cv2.line(
            mask, (size // 2, size // 2), (int(tip[0]), int(tip[1])), 255, int(rng.integers(size // 16, size // 6))
        )
    return mask
