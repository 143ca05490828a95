"""Which weights a result or a training rests on: their names and two hashes.

The hash of the file is what ``sha256sum`` and the hub say. The hash of the tensors is that of what was loaded, name by
name in float32, and is the same for a ``.pt`` and a ``.safetensors`` file of the same weights, in half precision or
not, with an optimiser beside them or not: so it is the one by which files of RDS know the weights they were trained on.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from rds_lib.data.checkpoints import read_checkpoint
from rds_lib.work.finished import digest

FILE = "model.json"  # in the folder of a result
SHOWN = 12  # digits of a hash in a message
_known: dict[tuple, str] = {}  # a file is hashed once a process


@dataclass(frozen=True)
class Origin:
    """The weights of a model: its config, the checkpoint's name or id, and SHA-256 of its file and of its tensors.

    Random weights have no hash, and a model whose files are several has none of its file.
    """

    config: str
    checkpoint: str
    sha256: str | None = None
    tensors_sha256: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """As results hold it."""
        return asdict(self)


UNKNOWN = Origin("not known", "not known")  # of a model that was not built here


def origin_of_file(config: str, checkpoint: str, path: Path, state: Mapping[str, Tensor] | None = None) -> Origin:
    """The origin of weights in a file that `read_checkpoint` reads; ``state`` is what it read, where that was done."""
    tensors = _once(path, "tensors", lambda: tensors_sha256(read_checkpoint(path) if state is None else state))
    return Origin(str(config), checkpoint, file_sha256(path), tensors)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; computed anew where its size or its time changed."""
    return _once(path, "file", lambda: digest(path))


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and float32 values, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().float().cpu().contiguous()
        found.update(f"{name} {list(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).numpy().astype("<f4", copy=False).data)
    return found.hexdigest()


def _once(path: Path, what: str, make: Callable[[], str]) -> str:
    if not path.is_file():
        return make()  # whose reader says so
    about = path.stat()
    key = (str(path.resolve()), about.st_size, about.st_mtime_ns, what)
    if key not in _known:
        _known[key] = make()
    return _known[key]
