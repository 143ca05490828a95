"""What training clips are made of: backgrounds and objects, decoded, shrunk and kept as uint8 arrays on disk.

Built once, whole or not at all, and memory-mapped: a process on a CPU reads what it uses, a GPU takes all of it over.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from rds_lib.data import scene, scenes, textures
from rds_lib.data.scene import Scene, cut_out, paint_object
from rds_lib.work.locks import require

GROUND = 320  # px, sides of a background; it is squeezed to a square, and its true shape kept as a number
DRAWN = 512  # objects drawn from textures
PLACES = 500  # backgrounds from which an object was taken out, at most


@dataclass(frozen=True)
class Stock:
    """Backgrounds and objects of the training pictures.

    Coordinates on a background run from -1 to 1 from border to border, x to the right and y down.
    """

    grounds: np.ndarray  # (N, GROUND, GROUND, 3) uint8 RGB
    aspects: np.ndarray  # (N,) float32, width over height before they were squeezed
    whole: int  # the first so many are pictures as they are; from each of the others an object was taken out
    sprites: np.ndarray  # (M, PATCH, PATCH, 4) uint8, premultiplied RGB and alpha
    places: np.ndarray  # (K, 6) float32: background, object, its x, y, half width and half height there


def open_stock(folder: str | Path, bsds_root: str = "") -> Stock:
    """Open the stock of the training split in ``folder``; it is built first if it is missing or its sources changed.

    Parameters
    ----------
    bsds_root : str
        A folder of BSDS500 for photographs and for objects cut from them; "" for the pictures at hand alone.

    Raises
    ------
    RDSInputError
        If ``bsds_root`` holds no photographs.
    """
    path = require(f"stock-{_key(bsds_root)}", folder, partial(_build, bsds_root), stage="pretrain")
    arrays = {
        name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("grounds", "aspects", "sprites", "places")
    }
    return Stock(**arrays, whole=len(arrays["grounds"]) - len(arrays["places"]))


def _key(bsds_root):
    """Changes with the code that draws and with the files that are read."""
    digest = hashlib.sha256()
    for file in (__file__, scene.__file__, scenes.__file__, textures.__file__):
        digest.update(Path(file).read_bytes())
    if bsds_root:
        files = sorted(Path(bsds_root).rglob("*.[jm][pa][gt]"))
        digest.update(repr([(file.relative_to(bsds_root).as_posix(), file.stat().st_size) for file in files]).encode())
    return digest.hexdigest()[:12]


def _build(bsds_root, path):
    pictures = textures.more_pictures("train") + (textures.more_pictures("train", bsds_root) if bsds_root else ())
    regions = textures.bsds_objects(bsds_root, "train") if bsds_root else ()
    placed = regions[:: max(1, -(-len(regions) // PLACES))]
    number = {id(region): n for n, region in enumerate(regions)}
    path.mkdir()
    _save(path / "grounds.npy", _grounds(pictures, placed), len(pictures) + len(placed), (GROUND, GROUND, 3))
    shapes = [picture.rgb.shape for picture in pictures] + [region.photo.shape for region in placed]
    np.save(path / "aspects.npy", np.array([width / height for height, width, _ in shapes], np.float32))
    _save(path / "sprites.npy", _sprites(pictures, regions), len(regions) + DRAWN, (scene.PATCH, scene.PATCH, 4))
    rows = [(len(pictures) + n, number[id(region)], *_place(region)) for n, region in enumerate(placed)]
    np.save(path / "places.npy", np.array(rows, np.float32).reshape(-1, 6))


def _save(file: Path, items: Iterable[np.ndarray], n: int, shape) -> None:
    """Write n uint8 arrays one after another, without holding all of them."""
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(n, *shape))
    for row, item in zip(array, items, strict=True):
        row[:] = item
    array.flush()


def _grounds(pictures, placed):
    yield from (_squeezed(picture.rgb) for picture in pictures)
    for region in placed:
        mask = np.zeros(region.photo.shape[:2], np.uint8)
        h, w = region.mask.shape
        mask[region.y : region.y + h, region.x : region.x + w] = region.mask
        yield _squeezed(textures.fill_hole(region.photo, cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0))


def _squeezed(rgb):
    shrinks = min(rgb.shape[:2]) > GROUND
    return cv2.resize(rgb, (GROUND, GROUND), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _sprites(pictures, regions):
    """Objects cut out first, in the order of the regions; then blobs and spiders in the textures of the pictures."""
    for region in regions:
        paint, _ = cut_out(region.rgb, region.mask)
        yield _as_bytes(paint_object(paint[..., 3], paint[..., :3]))
    easel = Scene(np.random.default_rng(0), "train", 1, 64, 64, pool=pictures)
    yield from (_as_bytes(easel.look()[0]) for _ in range(DRAWN))


def _as_bytes(paint):
    return (paint * (1, 1, 1, 255)).round().astype(np.uint8)


def _place(region):
    """(x, y, half width, half height) of the square canvas that `cut_out` puts around a region."""
    (height, width, _), (h, w) = region.photo.shape, region.mask.shape
    _, side = cut_out(region.rgb, region.mask)
    return (2 * region.x + w) / width - 1, (2 * region.y + h) / height - 1, side / width, side / height
