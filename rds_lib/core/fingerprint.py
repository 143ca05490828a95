"""What a cached training depends on, as one short hash: code folders, data, parameters, base weights."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from rds_lib.core import paths


def folder_digest(folder: Path, *, suffix: str = "") -> str:
    """SHA-256 of the names and contents of all files below a folder, ``__pycache__`` left out."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob(f"*{suffix}")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def listing_digest(folder: Path) -> str:
    """SHA-256 of the names, sizes and times of all files below a folder: what changes when a data set does."""
    rows = sorted((path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
                  for path in Path(folder).rglob("*") if path.is_file())
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def training_key(params, rooms: Iterable[str], *parts) -> str:
    """Short hash of all that a training depends on: a change starts afresh, nothing else does.

    Parameters
    ----------
    params : Params
        Sections ``model``, ``clips`` and ``data`` count, the data sets that they name, and the base weights with their config.
    rooms : iterable of str
        Folders of ``rds_lib`` whose code shapes the training; those that ``dvc.yaml`` lists for its stage.
    *parts
        Whatever else the training is given.
    """
    digest = hashlib.sha256(repr((params.model, params.clips, params.data, *parts)).encode())
    checkpoint = paths.resolve_or_none(params.model.checkpoint)
    for file in [checkpoint] if checkpoint else sorted(paths.MINI_SAM2.glob("mini_sam2*.[sy]*")):
        digest.update(file.read_bytes())
    for room in rooms:
        digest.update(folder_digest(paths.ROOT / "rds_lib" / room, suffix=".py").encode())
    if params.data.generated:
        digest.update((paths.ROOT / "data.dvc").read_bytes())
    for root in filter(None, (params.data.davis_root, params.data.sav_root, params.data.ytvos_root)):
        digest.update(listing_digest(paths.resolve(root)).encode())
    return digest.hexdigest()[:12]
