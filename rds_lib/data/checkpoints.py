"""Files of weights that people hand in: read without pickle, and looked at before anything is built from them."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from torch import Tensor

from rds_lib.core.errors import RDSInputError
from rds_lib.data.unreadable import MOST_BYTES_OF_HEADER, lacks_model, what_is_wrong

MOST_WIDTH = 2**14
FORMAT = "rds/1"

_Number = Annotated[int, Field(ge=0, lt=1024)]  # of a block
_Share = Annotated[float, Field(gt=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class RouterHeader(_Strict):
    """Arguments of a `routing.router.PredictionAwareRouter`. Older files lack those with a default."""

    embed_dim: Annotated[int, Field(ge=1, le=MOST_WIDTH)]
    depth: Annotated[int, Field(ge=1, le=1024)]
    always_on: tuple[_Number, ...]
    image_size: Annotated[int, Field(ge=32, le=4096)]
    token_stride: Annotated[int, Field(ge=1, le=64)] = 4
    hidden: Annotated[int, Field(ge=1, le=2**16)]
    budget: _Share
    logit_spread: Annotated[float, Field(gt=0, le=1000)]
    normalise: bool = True
    learn_spread: bool = False


class RDSHeader(_Strict):
    """What an RDS file says of itself; ``taus`` are thresholds by budget."""

    format: str
    router: RouterHeader | None
    blocks: tuple[_Number, ...]
    rank: Annotated[int, Field(ge=0, le=MOST_WIDTH)]
    alpha: Annotated[float, Field(ge=0, le=2**20)]
    budgets: tuple[_Share, ...]
    taus: dict[str, Annotated[float, Field(ge=0, le=2)]]
    config_file: Annotated[str, Field(max_length=4096)]
    base_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None  # of the weights it was trained on


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights of a model, float32: a ``.safetensors`` file, or SAM2's ``{"model": state_dict}`` in a ``.pt`` one.

    Raises
    ------
    RDSInputError
        If the file is missing or damaged, or holds anything but names with a tensor of numbers each.
    """
    path = Path(path)
    _check_file(path, "checkpoint {} does not exist; give the path of a .pt or .safetensors file, or an id on the hub")
    try:
        if path.suffix == ".safetensors":
            state, _ = _safetensors(path)
        else:
            _check_packed(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            state = content["model"] if isinstance(content, Mapping) and "model" in content else None
    except RDSInputError:
        raise
    except Exception as cause:
        fault, fix = what_is_wrong(path, cause)
        raise _unread(path, fault or type(cause).__name__, fix) from cause
    if state is None:
        raise _unread(path, *lacks_model(content if isinstance(content, Mapping) else None))
    if not isinstance(state, Mapping):
        raise RDSInputError(f"{path}: 'model' is {type(state).__name__}; expected names with tensors")
    _check_plain(path, state)
    return {name: tensor.detach().float() for name, tensor in state.items()}


def _unread(path, fault, fix) -> RDSInputError:
    expected = "SAM2's {'model': state_dict} in a .pt file, or a .safetensors file"
    return RDSInputError(f"checkpoint {path} could not be read as weights: {fault}; expected {expected}: {fix}")


def read_rds(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of an RDS file; the header has every key of `RDSHeader`, each in its range.

    Raises
    ------
    RDSInputError
        If the file is missing, damaged or no RDS file, or a value of its header is out of range.
    """
    path = Path(path)
    _check_file(path, "{}: no such RDS file; train one, or leave rds_path out for the shipped one of 'mini'")
    try:
        tensors, text = _safetensors(path)
        header = json.loads(text.get("rds", "{}"))
    except RDSInputError:
        raise
    except Exception as cause:
        fault = what_is_wrong(path, cause)[0] or cause
        raise RDSInputError(f"{path}: not a readable RDS file ({fault}); fetch or train it again") from cause
    found = header.get("format") if isinstance(header, dict) else header
    if found != FORMAT:
        raise RDSInputError(f"{path}: format is {_short(found)}, expected {FORMAT!r}; write it with save_rds")
    try:
        checked = RDSHeader.model_validate_json(text["rds"])
    except ValidationError as error:
        faults = "; ".join(_explain(item) for item in error.errors()[:3])
        raise RDSInputError(f"{path}: its header cannot be used ({faults}); write it with save_rds") from error
    _check_adapters(path, checked)
    _check_plain(path, tensors)
    return {name: tensor.float() for name, tensor in tensors.items()}, header


def check_sizes(path: str | Path, header: Mapping[str, object], *keys: str) -> None:
    """Raise where a header names a width that is no whole number or that no model has, before it is made."""
    for key in keys:
        value = header.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_WIDTH:
            raise RDSInputError(
                f"{path}: {key} = {_short(value)} in its header; expected a whole number from 1 to {MOST_WIDTH}: train "
                "it anew"
            )


def check_tensors(state: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int | None]], source: str) -> None:
    """Raise unless ``state`` has the names and shapes of ``wanted`` (None: any size) and only finite values.

    Raises
    ------
    RDSInputError
        Lists missing, unexpected, misshaped and NaN entries of ``source``.
    """
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    both = sorted(wanted.keys() & state.keys())
    wrong = [name for name in both if not _has_shape(state[name], wanted[name])]
    broken = [name for name in both if name not in wrong and not state[name].isfinite().all()]
    faults = {"missing": missing, "unexpected": extra, "other shape": wrong, "NaN or infinite": broken}
    shown = {what: ", ".join(name[:80] for name in names[:5]) for what, names in faults.items()}
    listed = "; ".join(f"{what}: {shown[what]} ({len(names)})" for what, names in faults.items() if names)
    if listed:
        raise RDSInputError(f"{source} does not fit: {listed}; use weights saved for the same model")


def _has_shape(tensor: Tensor, wanted: Sequence[int | None]) -> bool:
    same_rank = len(wanted) == tensor.ndim
    return same_rank and all(want in (None, have) for want, have in zip(wanted, tensor.shape, strict=True))


def _check_adapters(path, header):
    blocks, rank, alpha, router = header.blocks, header.rank, header.alpha, header.router
    fault = None
    if len(set(blocks)) < len(blocks):
        fault = f"blocks = {_short(list(blocks))}: must name each block once"
    elif blocks and not (rank and 0 < alpha <= 1000 * rank):
        fault = f"rank = {rank}, alpha = {alpha:g}: must be at least 1, and above 0 up to 1000 times the rank"
    elif router is not None and not set(router.always_on) <= set(range(router.depth)):
        fault = f"router.always_on = {_short(list(router.always_on))}: must be some of its {router.depth} blocks"
    for budget in header.taus:
        try:
            is_share = 0 < float(budget) <= 1
        except ValueError:
            is_share = False
        if not is_share:
            fault = f"taus: budget {_short(budget)} must be above 0 and at most 1"
    if fault:
        raise RDSInputError(f"{path}: its header cannot be used ({fault}); write it with save_rds")


def _check_file(path, missing):
    """Pipes, devices and folders are refused: reading them may never end."""
    try:
        is_file, is_there = path.is_file(), path.exists()
    except (OSError, ValueError) as cause:  # a name that no file system takes
        raise RDSInputError(missing.format(_short(str(path)))) from cause
    if not is_there:
        raise RDSInputError(missing.format(path))
    if not is_file:
        raise RDSInputError(f"{path}: is no file with weights in it")


def _safetensors(path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata, once the header has a sane length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(MOST_BYTES_OF_HEADER, path.stat().st_size):
        fault = f"a header of {length} bytes; expected at most {MOST_BYTES_OF_HEADER}"
        found, fix = what_is_wrong(path)
        raise RDSInputError(f"{path}: {found or fault}: {fix}")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def _check_packed(path):
    """Raise where an archive would unpack to more than the file: torch packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > path.stat().st_size:
        raise RDSInputError(f"checkpoint {path}: unpacks to {unpacked} bytes; expected what torch.save writes")


def _check_plain(path, state):
    for name, tensor in state.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise RDSInputError(
                f"{path}: {_short(name)} is {_what(tensor)}; expected a name with a dense tensor of floats"
            )


def _is_plain(value) -> bool:
    """Whether a value is a dense tensor of floats that all stand in the file."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    if not value.is_floating_point() or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _what(value) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    kind = "sparse " * (value.layout != torch.strided)
    return f"a {kind}tensor of {value.dtype}, {tuple(value.shape)}, on {value.device}"


def _explain(item: dict) -> str:
    key = ".".join(str(part) for part in item["loc"])
    return f"{_short(key)} = {_short(item['input'])}: {item['msg']}"


def _short(value, limit: int = 60) -> str:
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
