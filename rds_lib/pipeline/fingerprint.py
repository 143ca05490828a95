"""A short hash of everything that a cached training depends on: code, data, parameters, base weights."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from rds_lib.core import paths
from rds_lib.data.hub import checkpoint_named, fetch, is_id

OF_TRAINING = {"seed", "frames", "height", "width", "train", "calibration", "changing_train", "changing_calibration"}


def training_key(params, rooms: Iterable[str], *parts) -> str:
    """Hash all that a training depends on, so that a change starts it afresh and nothing else does.

    Parameters
    ----------
    params : Params
        Section ``model`` counts, with its config and base weights, and what shapes the clips of training and
        calibration: numbers, length, size and seed of generated ones, else the files below ``data.davis_root``.
    rooms : iterable of str
        Folders or files of ``rds_lib`` whose code shapes the training; the folders that ``dvc.yaml`` lists for it.
    *parts
        Whatever else the training is given; compared by ``repr``.

    Returns
    -------
    str
        Twelve hexadecimal digits.
    """
    digest = hashlib.sha256(repr((params.model, parts, version("sam2"))).encode())
    for file in _base_files(params):
        digest.update(file_digest(file))
    for room in rooms:
        digest.update(code_digest(paths.ROOT / "rds_lib" / room))
    digest.update(_data_digest(params))
    return digest.hexdigest()[:12]


def file_digest(file: Path) -> bytes:
    """SHA-256 of a file's name and content; checkpoints are not read into memory."""
    with Path(file).open("rb") as content:
        return Path(file).name.encode() + hashlib.file_digest(content, "sha256").digest()


def code_digest(path: Path) -> bytes:
    """SHA-256 of a Python file, or of the names and contents of all Python files below a folder."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such code; mend the list of rooms")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        digest.update(file.relative_to(path.parent).as_posix().encode() + file_digest(file))
    return digest.digest()


def listing_digest(folder: Path) -> bytes:
    """SHA-256 of the names, sizes and times of all files below a folder: cheap for a large data set."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    rows = sorted((file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr(rows).encode()).digest()


def _base_files(params) -> list[Path]:
    """The mini models' configs, and the weights that the training starts from."""
    checkpoint = checkpoint_named(params.model.checkpoint)
    checkpoint = fetch(checkpoint) if checkpoint and is_id(checkpoint) else checkpoint
    weights = [checkpoint] if checkpoint else sorted(paths.MINI_SAM2.glob("mini_sam2*.safetensors"))
    return [*sorted(paths.MINI_SAM2.glob("mini_sam2*.yaml")), *weights]


def _data_digest(params) -> bytes:
    if not params.data.generated:
        return listing_digest(paths.resolve(params.data.davis_root))
    return repr(params.clips.model_dump(include=OF_TRAINING)).encode()  # drawn with the code of room data
