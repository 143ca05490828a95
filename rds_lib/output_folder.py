"""Folders that a command writes: whole or not at all, and never over something of the user's own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rds_lib.artifacts import atomic_write
from rds_lib.errors import RDSInputError


def check_output(out: str | Path, *, overwrite: bool = False, marker: str) -> Path:
    """Raise unless ``out`` can be written: it is absent, empty, or made by the same command and ``overwrite`` is set.

    ``marker`` is a file or folder that every output of the command holds; a folder without it is never replaced.
    """
    out = Path(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RDSInputError(f"{out}: is no folder; choose another place for the output")
    if out.is_dir() and any(out.iterdir()):
        if not (out / marker).exists():
            raise RDSInputError(f"{out}: holds other files (there is no {marker}); choose an empty or a new folder")
        if not overwrite:
            raise RDSInputError(f"{out}: holds an earlier output; choose another folder or add --overwrite")
    return out


@contextmanager
def output_folder(out: str | Path, *, overwrite: bool = False, marker: str) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``out`` when the block ends well; see `check_output`."""
    out = check_output(out, overwrite=overwrite, marker=marker)
    with atomic_write(out) as stage:
        stage.mkdir()
        yield stage
        if check_output(out, overwrite=overwrite, marker=marker).exists():
            shutil.rmtree(out)
