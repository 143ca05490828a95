"""Label maps and masks as arrays: what their numbers and the colours of a palette mean."""

from collections.abc import Iterable
from numbers import Integral

import numpy as np

from rds_lib.core.errors import RDSInputError

VOID = 255  # DAVIS's "do not care" label, read as background


def present_labels(labels: np.ndarray, *, void: int | None = VOID) -> list[int]:
    """The ids in a uint8 label map, sorted, without background and void."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(counts) if i not in (0, void)]


def label_numbers(obj_ids: Iterable[int]) -> dict[int, int]:
    """The label that stands for each object in a uint8 label map: its id if all ids fit, else 1, 2, ... in their order.

    SA-V's first object is 0, which in a label map is the background.

    Raises
    ------
    RDSInputError
        If there are more than 254 objects.
    """
    obj_ids = sorted(obj_ids)
    if len(obj_ids) >= VOID:
        raise RDSInputError(f"{len(obj_ids)} objects; a label map holds at most {VOID - 1}, so track them in parts")
    fit = all(0 < obj_id < VOID for obj_id in obj_ids)
    return {obj_id: obj_id if fit else n for n, obj_id in enumerate(obj_ids, start=1)}


def check_labels(obj_ids: Iterable, name: str) -> None:
    """Raise unless a palette PNG can hold all ids: whole numbers from 1 to 254, as 0 is background and 255 void."""
    wrong = [i for i in obj_ids if isinstance(i, bool) or not isinstance(i, Integral) or not 0 < i < VOID]
    if wrong:
        raise RDSInputError(f"{name}: object id {wrong[0]!r}; a palette PNG takes whole numbers from 1 to {VOID - 1}")


def is_binary(labels: np.ndarray) -> bool:
    """Whether 255 is the only label: then it is no void but the object, white on black."""
    return present_labels(labels, void=None) == [VOID]


def as_mask(values: np.ndarray, name: str = "mask") -> np.ndarray:
    """Numbers that stand for a mask as bool: 0 and 1, or 0 and 255, of any dtype.

    Raises
    ------
    RDSInputError
        For other values: in logits, label maps and soft masks it is not what is not 0 that counts.
    """
    if values.dtype == bool:
        return values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise RDSInputError(
            f"{name} holds NaN or infinite values; give True or 1 on the object and False or 0 elsewhere"
        )
    mask = values != 0
    on = values[mask]
    if len(on) and (on[0] not in (1, 255) or (on != on[0]).any()):
        raise RDSInputError(
            f"{name} holds values from {values.min():g} to {values.max():g}; give True or 1 (or 255) on the object and "
            "False or 0 elsewhere, such as logits > 0 or labels == 3"
        )
    return mask


def by_colour(labels: np.ndarray, palette: np.ndarray, path) -> np.ndarray:
    """A palette picture's label map: its indices, unless the palette (N, 3) uint8 says otherwise.

    White on black is object 1, whatever the two indices are.

    Raises
    ------
    RDSInputError
        If the palette shows black, but not as index 0; it names ``path``.
    """
    is_black, is_white = palette.max(1) < 32, palette.min(1) > 223
    if is_black[0] and not is_white.any():
        return labels  # as with DAVIS's palette
    is_exact = ((palette == 0) | (palette == 255)).all()
    if (is_black | is_white).all() and (is_exact or len(palette) == 2):
        return np.isin(labels, np.flatnonzero(is_white)).astype(np.uint8)
    if len(palette) == 256 and (palette == np.arange(256)[:, None]).all() and is_binary(labels):
        return (labels == VOID).astype(np.uint8)
    black = [i for i in present_labels(labels, void=None) if i < len(palette) and is_black[i]]
    if black and not is_black[0] and not labels.all():
        raise RDSInputError(
            f"{path}: its palette shows index {black[0]} in black and index 0, the background, in "
            f"{palette[0].tolist()}; save it with the background as index 0"
        )
    return labels


def davis_palette() -> np.ndarray:
    """DAVIS's colours, (256, 3) uint8: label i's bits dealt in turn to red, green and blue, highest bit first."""
    ids = np.arange(256)[:, None] >> np.arange(3)
    bits = (ids[..., None] >> (3 * np.arange(3))) & 1  # (256, RGB, 3)
    return (bits << np.array([7, 6, 5])).sum(-1).astype(np.uint8)
