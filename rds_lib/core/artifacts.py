"""Read and write a stage's products: whole or not at all, with a schema version inside."""

import hashlib
import json
import os
import secrets
import shutil
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SCHEMA = 1
TEMPORARY = ".tmp-"
MOST_UNPACKED = 2**31  # bytes of an ``npz``


class _Product(dict):
    """Entries of a file by name; one that is not there is an error that names the file."""

    def __init__(self, entries, path):
        super().__init__(entries)
        self.path = Path(path)

    def __missing__(self, name):
        has = ", ".join(map(str, self))[:200] or "none"
        raise RDSInputError(f"{paths.shown(self.path)}: no entry {name!r}, it has {has}; make it again with dvc repro")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it into place when the block ends without an error.

    The temporary name keeps the suffix. Write it as a file, or make it a folder if ``path`` does not exist yet.
    Contents and name are flushed to disk. On an error the temporary path is removed and an older ``path`` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) < 16 else ""  # a name of 255 bytes leaves no room for more
    temporary = path.with_name(f"{mark_of(path)}{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        if temporary.is_file():
            temporary.chmod(0o644)  # some writers leave it to its owner alone
        for file in [temporary, *temporary.rglob("*")]:
            flush(file)
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
        raise


def mark_of(path: Path) -> str:
    """What the names of all temporaries of one file or folder begin with."""
    return f"{TEMPORARY}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}-"


def flush(path: Path) -> None:
    """Have the disk hold a file or folder as it is now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file, whole or not at all."""
    with copied(source, target):
        pass


@contextmanager
def copied(source: str | Path, target: str | Path) -> Iterator[Path]:
    """Yield a copy of a file to complete; it becomes ``target`` when the block ends without an error."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        yield temporary


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def read_text(path: str | Path) -> str:
    """Read a text file of any system: UTF-8 with or without a byte order mark, or UTF-16 with one."""
    with _readable(path):
        content = Path(path).read_bytes()
        return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, data: Mapping[str, Any], *, schema: int | None = SCHEMA) -> None:
    """Write a mapping as JSON; ``schema=None`` for files that DVC reads as metrics."""
    content = dict(data) if schema is None else {"schema": schema, **data}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path, *, schema: int | None = SCHEMA) -> dict[str, Any]:
    """Read what `write_json` wrote, without the schema version."""
    with _readable(path):
        content = json.loads(read_text(path), parse_constant=int)  # which takes no NaN
        if not isinstance(content, dict):
            raise ValueError(f"expected names with values, found {type(content).__name__}")
    if schema is not None:
        _check_schema(path, content.pop("schema", None), schema)
    return _Product(content, path)


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays, compressed; equal arrays give equal bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, schema=np.int64(SCHEMA), **arrays)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `write_npz` wrote; pickled objects are refused."""
    with _readable(path), np.load(path, allow_pickle=False) as content:
        if (size := sum(item.file_size for item in content.zip.infolist())) > MOST_UNPACKED:
            raise ValueError(f"unpacks to {size} bytes; expected at most {MOST_UNPACKED}")
        arrays = {name: content[name] for name in content.files}
    _check_schema(path, arrays.pop("schema", None), SCHEMA)
    return _Product(arrays, path)


def write_table(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV without its index. The columns are its schema."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: str | Path, *, columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV table and check that it has ``columns``; only an empty field is missing."""
    import pandas as pd

    with _readable(path):
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    absent = [column for column in columns if column not in table]
    if absent:
        raise RDSInputError(f"{paths.shown(Path(path))}: no column {', '.join(absent)}; it has {', '.join(table)}")
    return table


def write_tensors(path: str | Path, tensors: "Mapping[str, Tensor]", **metadata: Any) -> None:
    """Write named tensors and JSON metadata as safetensors; equal content gives equal bytes.

    Floats are stored in half precision: trained weights lose nothing that a score shows, and files are half as large.
    """
    from safetensors.torch import save

    note = json.dumps({"schema": SCHEMA, **metadata}, sort_keys=True)
    content = {name: in_half(tensor).cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(content, metadata={"rds": note}))  # a full disk is an OSError then


def in_half(tensor: "Tensor") -> "Tensor":
    """A tensor as files keep it: half precision where it holds floats."""
    return tensor.detach().half() if tensor.is_floating_point() else tensor.detach()


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read what `write_tensors` wrote: tensors by name, floats as float32, and the metadata."""
    from safetensors import safe_open

    with _readable(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        metadata = json.loads((file.metadata() or {}).get("rds", "{}"))
        if not isinstance(metadata, dict):
            raise ValueError(f"a header that is {type(metadata).__name__}; expected names with values")
    _check_schema(path, metadata.pop("schema", None), SCHEMA)
    return tensors, _Product(metadata, path)


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn whatever a damaged or missing file raises into one error that names it; a pipe may never end."""
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError("it is no file")
        yield
    except Exception as error:
        raise RDSInputError(f"{paths.shown(Path(path))}: cannot be read ({type(error).__name__}: {error})") from error


def _check_schema(path: str | Path, found: Any, wanted: int) -> None:
    if np.ndim(found) or found != wanted:
        raise RDSInputError(
            f"{paths.shown(Path(path))}: schema version {str(found)[:40]}, expected {wanted}; delete the file and run "
            "dvc repro"
        )
