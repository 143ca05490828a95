"""Which known model a checkpoint is of, where it is not of the one that was asked for."""

import inspect
from collections.abc import Callable, Iterable, Mapping

from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor

from rds_lib.core.errors import RDSInputError

_WIDTH, _BLOCKS = "image_encoder.trunk.patch_embed.proj.weight", "image_encoder.trunk.blocks."


def check_kind(state: Mapping[str, Tensor], config_file: str, path, load: Callable, shipped: Iterable[str]) -> None:
    """Raise where tensors are plainly another known model's, or named as transformers names them.

    Parameters
    ----------
    load : callable
        ``model.sam2.load_config``.
    shipped : iterable of str
        Names of configs beside those of SAM2's ids.

    Raises
    ------
    RDSInputError
        Names the config that the checkpoint fits. What fits none is left to `checkpoints.check_tensors`.
    """
    wanted = next(((name, file) for name, (own, file) in HF_MODEL_ID_TO_FILENAMES.items() if own == config_file), None)
    if any(name.startswith("vision_encoder.") for name in state):
        file = f"{wanted[1]}, or the id {wanted[0]}" if wanted else "the .pt file"
        raise RDSInputError(f"checkpoint {path}: is in the format of transformers; give SAM2's own beside it, {file}")
    found = _of_tensors(state)
    if found is None or found == _of_config(load(config_file)):
        return
    for config in (*shipped, *(own for own, _ in HF_MODEL_ID_TO_FILENAMES.values())):
        if found == _of_config(load(config)):
            other = f", or the checkpoint of {config_file!r}" + (f", {wanted[1]}" if wanted else "")
            fault = f"checkpoint {path} does not fit config {config_file!r}: its tensors are those of {config!r}"
            raise RDSInputError(f"{fault}; give that config{other}")


def _of_tensors(state) -> tuple[int, int, bool] | None:
    """Width and depth of the encoder, and whether it is SAM2.1's; None of anything but a SAM2."""
    depth = len({name.removeprefix(_BLOCKS).split(".")[0] for name in state if name.startswith(_BLOCKS)})
    return (len(state[_WIDTH]), depth, "no_obj_embed_spatial" in state) if _WIDTH in state else None


def _of_config(config) -> tuple[int, int, bool]:
    trunk, defaults = config.model.image_encoder.trunk, inspect.signature(Hiera).parameters
    width, stages = (trunk.get(name, defaults[name].default) for name in ("embed_dim", "stages"))
    return width, sum(stages), bool(config.model.get("no_obj_embed_spatial", False))
