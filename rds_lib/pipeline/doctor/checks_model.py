"""Devices, and the weights that a profile names: there, whole, and made for the model. Nothing in them is executed.

Torch is imported by the checks that need it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.artifacts import read_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import SMALL
from rds_lib.data import hub
from rds_lib.pipeline.doctor.chain import Chain
from rds_lib.pipeline.doctor.checks_checkout import recorded_hashes
from rds_lib.pipeline.doctor.finding import ERROR, OK, WARNING, Finding, guarded, listed, refusal, size
from rds_lib.work.finished import digest

ON_DEVICE = ("importance", "headroom", "train", "baselines", "evaluation", "benchmark")  # stages that run the model
FETCH = "fetch it again"
RESTORE = "git checkout -- {}"


def needs_gpu(params) -> tuple[str, ...]:
    """The stages of a profile that would take weeks without a GPU: those that run a large model."""
    if params.model.config in SMALL:
        return ()
    return (*ON_DEVICE, *(("dinov3",) if params.dinov3.checkpoint != "mini" else ()))


def check_devices(params) -> Finding:
    """The build of torch and its devices, against what the profile needs."""
    import torch

    from rds_lib.model.sam2 import check_device

    build = f"torch {torch.__version__}"
    stops = needs_gpu(params)
    if torch.cuda.is_available():
        check_device("cuda")
        cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
        told = listed([f"{card.name}, {size(card.total_memory)}" for card in cards], 8)
        return Finding("devices", OK, f"{build}; {told}; {size(torch.cuda.mem_get_info()[0])} free on the first")
    seen = Path("/proc/driver/nvidia/version").is_file()
    why = "no GPU that torch can use, though there is a driver" if seen else "no GPU"
    if stops:
        fix = "use a machine with a GPU, and a torch that is built for it; or another profile, such as mini"
        return Finding("devices", ERROR, f"{build}; {why}, which {params.profile} needs", fix, stops)
    return Finding("devices", WARNING if seen else OK, f"{build}; {why}; the CPU will do")


def check_weights(params, chain: Chain) -> Iterator[Finding]:
    """A line for each file of weights that ships or that the profile names, and one for the small shipped files."""
    hashes = recorded_hashes("assets")
    with suppress(OSError):
        yield _small_files(hashes, chain)
    for path in sorted(paths.ASSETS.rglob("*.safetensors")) + _absent(hashes):
        name = path.relative_to(paths.ROOT).as_posix()
        stops = chain.readers(name)
        yield from guarded(name, _shipped, path, hashes.get(name), stops, stops=stops)
    own = [(params.model.config, params.model.checkpoint, "model.checkpoint", ON_DEVICE)]
    own += [(*row, "evaluation.smaller", ("evaluation", "benchmark")) for row in params.evaluation.smaller]
    for config, text, key, stops in own:
        if text or config not in SMALL:
            yield _named(config, text, key, stops, params.profile)
    if params.dinov3.checkpoint != "mini":
        yield _dinov3(params.dinov3.checkpoint)


def _absent(hashes) -> list[Path]:
    """Weights that git or DVC knows and that are not there."""
    known = [paths.ROOT / name for name in hashes if name.endswith(".safetensors")]
    return [path for path in known if not path.is_file()]


def _small_files(hashes, chain: Chain) -> Finding:
    """Configurations, tables and cards beside the weights."""
    names = [name for name in sorted(hashes) if not name.endswith(".safetensors")]
    missing = [name for name in names if not (paths.ROOT / name).is_file()]
    if missing:
        stops = {stage for name in missing for stage in chain.readers(name)}
        found, fix = f"missing: {listed(missing)}", RESTORE.format(" ".join(missing))
        return Finding("shipped files", ERROR if stops else WARNING, found, fix, tuple(sorted(stops)))
    changed = [name for name in names if not _is_as(paths.ROOT / name, hashes[name])]
    if changed:
        found = f"changed since they were committed: {listed(changed)}"
        return Finding("shipped files", WARNING, found, RESTORE.format(" ".join(changed)))
    return Finding("shipped files", OK, f"{len(names)} beside the weights, as recorded")


def _shipped(path: Path, recorded, stops: tuple[str, ...]) -> Finding:
    """Weights in ``assets``: read by the readers that stages use, then compared with what was committed."""
    from rds_lib.data.checkpoints import read_checkpoint, read_rds
    from rds_lib.model.sam2 import SHIPPED

    name = path.relative_to(paths.ROOT).as_posix()
    config = {file.name: config for config, file in SHIPPED.items()}.get(path.name)
    try:
        if config:
            _fits(config, path)
        else:
            (read_rds if path.name.startswith("rds") else read_checkpoint)(path)
    except RDSInputError as error:
        return refusal(name, error, stops=stops, fix=RESTORE.format(name))
    about = f"{size(path.stat().st_size)}, sha256 {digest(path)}"
    if recorded is None:
        return Finding(name, OK, f"{about}; no hash is recorded")
    if not _is_as(path, recorded):
        return Finding(
            name, WARNING, f"not as committed: {about}", f"{RESTORE.format(name)}, unless the change is yours"
        )
    return Finding(name, OK, f"as committed: {about}")


def _named(config: str, text: str, key: str, stops: tuple[str, ...], profile: str) -> Finding:
    """A checkpoint that the profile names, by path or by id."""
    from rds_lib.data.origin import file_sha256

    edit = f"or name another one in params/{profile}.yaml ({key})"
    if not text:
        found = f"{config} ships without weights, and no checkpoint is named"
        return Finding(key, ERROR, found, f"name one in params/{profile}.yaml ({key})", stops)
    try:
        path = _of_hub(config, text) if hub.is_id(text) else paths.resolve(text)
        if path is None:
            found = f"{text}: not on this machine; the first stage that needs it fetches it from the hub"
            return Finding(key, WARNING, found, f"have a network then, {edit}")
        if not path.exists():
            return Finding(key, ERROR, f"{paths.shown(path)} is missing", f"fetch it, {edit}", stops)
        _fits(config, path)
    except RDSInputError as error:
        return refusal(key, error, stops=stops, fix=f"{FETCH}, {edit}")
    name = f"{text}, in the hub's cache" if hub.is_id(text) else paths.shown(path)
    return Finding(key, OK, f"{name}: {size(path.stat().st_size)}, sha256 {file_sha256(path)}")


def _of_hub(config: str, text: str) -> Path | None:
    """The file of an id that belongs to a config, if it is on this machine; nothing is fetched."""
    hub.with_config(config, text)
    return hub.cached(text)


def _fits(config: str, path: Path) -> None:
    """Raise unless a file can be read and has the tensors of the model."""
    from rds_lib.model.sam2 import build_model

    build_model(config, path)


def _dinov3(checkpoint: str) -> Finding:
    """A folder of weights, or an id on the hub, which only its stage asks for."""
    name, stops, folder = "dinov3.checkpoint", ("dinov3",), paths.resolve(checkpoint)
    if folder.is_dir():
        absent = [file for file in ("config.json", "model.safetensors") if not (folder / file).is_file()]
        if absent:
            return Finding(
                name, ERROR, f"{checkpoint} has no {listed(absent)}", f"{FETCH}, or name the hub's id", stops
            )
        read_json(folder / "config.json", schema=None)
        return Finding(name, OK, f"{checkpoint}: {size((folder / 'model.safetensors').stat().st_size)}")
    with suppress(ImportError, ValueError, OSError):
        from huggingface_hub import try_to_load_from_cache

        if isinstance(try_to_load_from_cache(checkpoint, "model.safetensors"), str):
            return Finding(name, OK, f"{checkpoint}: on this machine, in the hub's cache")
    fix = "accept its licence on the hub and log in there, or name a folder that has it"
    return Finding(name, WARNING, f"{checkpoint}: not on this machine; its stage asks the hub for it", fix)


def _is_as(path: Path, recorded: tuple[str, str]) -> bool:
    """Whether a file has a recorded hash: git's, which is over its length too, or MD5."""
    kind, value = recorded
    content = path.read_bytes()
    if kind == "md5":
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == value
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == value
