"""Build SAM2 models from official or mini configs and load their weights, without pickle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sam2  # noqa: F401  (its import registers SAM2's configs with Hydra, for those who build stock models)
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from hydra.version import VersionBase
from omegaconf import OmegaConf
from torch import nn

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import MINI_SAM2, shipped
from rds_lib.data import hub
from rds_lib.data.checkpoints import check_tensors, read_checkpoint
from rds_lib.data.fits import check_kind
from rds_lib.data.origin import Origin, origin_of_file
from rds_lib.model.backbone import note_origin

MINI_CONFIG = MINI_SAM2 / "mini_sam2.yaml"
MINI_WEIGHTS = MINI_SAM2 / "mini_sam2.safetensors"
SHIPPED = {"mini": MINI_WEIGHTS, "mini_half": MINI_SAM2 / "mini_sam2_half.safetensors"}
STOCK_PREDICTOR = "sam2.sam2_video_predictor.SAM2VideoPredictor"


def build_model(config_file, ckpt_path=None, *, cls=STOCK_PREDICTOR, device="cpu", overrides=()) -> nn.Module:
    """Build a SAM2 model in evaluation mode.

    Parameters
    ----------
    config_file : str
        ``"mini"``, ``"mini_half"`` (24 blocks instead of 48), or the name of a config inside the ``sam2`` package,
        such as ``configs/sam2.1/sam2.1_hiera_l.yaml``; or an id on the hub, such as ``facebook/sam2.1-hiera-large``,
        which implies the checkpoint too.
    ckpt_path : path, str, None or False
        SAM2's official ``.pt`` (``{"model": state_dict}``) or ``.safetensors``, or an id on the hub. None: the shipped
        weights for the mini models, random ones for any other config. False: random weights.
    cls : str
        Dotted name of the class to instantiate; its constructor takes SAM2's arguments.
    device : str or torch.device
    overrides : sequence of str
        Hydra overrides of the config, such as ``"++model.image_size=512"``.

    Raises
    ------
    RDSInputError
        If the config is unknown, the device not there, or the checkpoint missing, broken or made for another config.
    """
    check_device(device)
    config_file, ckpt_path = hub.with_config(config_file, ckpt_path)
    config = load_config(config_file, [f"++model._target_={cls}", *overrides])
    name, path = _file_of(config_file, ckpt_path)
    model = instantiate(config.model, _recursive_=True)
    note_origin(model, _load_weights(model, config_file, name, path) if path else Origin(str(config_file), name))
    return model.to(device).eval()


def weights_of(config_file, ckpt_path=None) -> Origin:
    """Which weights `build_model` loads for the same arguments; builds nothing, and fetches what an id names."""
    config_file, ckpt_path = hub.with_config(config_file, ckpt_path)
    name, path = _file_of(config_file, ckpt_path)
    return origin_of_file(config_file, name, path) if path else Origin(str(config_file), name)


def _file_of(config_file, ckpt_path) -> tuple[str, Path | None]:
    """The name that results give a checkpoint, and its file; None for random weights."""
    if ckpt_path is None and config_file in SHIPPED:
        ckpt_path = shipped(SHIPPED[config_file])
    if not ckpt_path:
        return "random weights", None
    if hub.is_id(ckpt_path):
        return ckpt_path, hub.fetch(ckpt_path)
    return Path(ckpt_path).name, Path(ckpt_path)


def check_device(device: str | torch.device, name: str = "device") -> None:
    """Raise unless something can be computed on a device; torch says it in as many ways as there are devices."""
    try:
        torch.zeros(1, device=device).add(1).item()
    except Exception as cause:
        found = "cpu" + "".join(f", cuda:{n}" for n in range(torch.cuda.device_count()))
        why = str(cause).strip().partition("\n")[0]
        raise RDSInputError(f"{name} {device}: not usable here; found {found} ({why})") from cause


def load_config(config_file, overrides=()):
    """Compose a config by name; ``overrides`` are Hydra's ``++key=value`` strings."""
    if config_file in SHIPPED:
        files = [MINI_CONFIG] + ([] if config_file == "mini" else [MINI_CONFIG.with_stem("mini_sam2_half")])
        changes = OmegaConf.from_dotlist([item.lstrip("+") for item in overrides])
        return OmegaConf.merge(*map(OmegaConf.load, map(shipped, files)), changes)
    try:
        with _hydra_of_sam2():
            config = compose(config_name=str(config_file), overrides=list(overrides))
            OmegaConf.resolve(config)
    except Exception as cause:
        why = str(cause).strip().partition("\n")[0]
        hint = "use 'mini' or a config's name in the sam2 package (no file path): 'configs/sam2.1/sam2.1_hiera_l.yaml'"
        if not isinstance(cause, MissingConfigException):
            hint = f"look at the overrides: {', '.join(overrides) or 'none'}"
        fault = f"model config {config_file!r} could not be composed ({type(cause).__name__}: {why})"
        raise RDSInputError(f"{fault}; {hint}") from cause
    return config


@contextmanager
def _hydra_of_sam2() -> Iterator[None]:
    """Compose from the sam2 package, whatever Hydra the program around us has set up, and leave that as it was."""
    program, version = GlobalHydra.instance(), VersionBase.instance()
    hydra, base = program.hydra, version.version_base
    program.clear()
    try:
        initialize_config_module("sam2", version_base="1.2")
        yield
    finally:
        program.hydra, version.version_base = hydra, base


def _load_weights(model, config_file, name, path) -> Origin:
    state = read_checkpoint(path)
    check_kind(state, config_file, path, load_config, SHIPPED)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    check_tensors(state, wanted, f"checkpoint {path} for config {config_file!r}")
    model.load_state_dict(state)
    return origin_of_file(config_file, name, path, state)


def set_image_size(model, size: int) -> None:
    """Make a SAM2 model take square images of ``size`` px, a multiple of 32; no weight changes shape."""
    if size % 32:
        raise RDSInputError(f"image size {size} px is no multiple of 32, the coarsest stride of the encoder")
    grid = size // model.backbone_stride
    model.image_size, model.sam_image_embedding_size = size, grid
    prompts = model.sam_prompt_encoder
    prompts.input_image_size = (size, size)
    prompts.image_embedding_size = (grid, grid)
    prompts.mask_input_size = (4 * grid, 4 * grid)
