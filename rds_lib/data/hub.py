"""SAM2's checkpoints by their ids on the Hugging Face hub: which config an id implies, and the file behind it.

The ids, configs and names of files are those of ``sam2.build_sam``. What is fetched lies in the cache of
``huggingface_hub`` and follows its variables: ``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE``.
"""

import re
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError

_FAMILY = re.compile(r"facebook/sam2[\w.+-]*")  # of SAM2's ids; a name that ends as a file does is a path


def is_id(name) -> bool:
    """Whether a config's or a checkpoint's name is an id of SAM2's on the hub: ``facebook/sam2...``, and no file."""
    text = str(name)
    is_ours = _FAMILY.fullmatch(text) is not None and not text.endswith((".pt", ".safetensors", ".yaml"))
    return is_ours and not Path(text).is_file()


def known(model_id: str) -> tuple[str, str]:
    """The config and the file's name of an id.

    Raises
    ------
    RDSInputError
        If SAM2 has no such id; lists those that it has.
    """
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES as table

    if str(model_id) not in table:
        raise RDSInputError(f"{model_id!r} is no id of SAM2's on the hub; choose one of {', '.join(table)}, or a path")
    return table[str(model_id)]


def checkpoint_named(text: str) -> Path | str | None:
    """A checkpoint as a profile writes it: an id stays one, a path starts at the repository's root, "" is None."""
    return text if is_id(text) else paths.resolve_or_none(text)


def with_config(config: str, checkpoint):
    """Return config and checkpoint with ids in their places: an id in place of a config implies both.

    Parameters
    ----------
    config : str
        A config's name, or an id.
    checkpoint : path, str, None or False
        A file, an id, or what stands for none.

    Raises
    ------
    RDSInputError
        If an id is unknown, or its config is not the one that is given.
    """
    given = config
    if is_id(config):
        checkpoint, config = (config if checkpoint is None else checkpoint), known(config)[0]
    if checkpoint and is_id(checkpoint):
        checkpoint, own = str(checkpoint), known(checkpoint)[0]
        if _stem(own) != _stem(config):
            raise RDSInputError(
                f"checkpoint {checkpoint} is of config {own!r}, and the config given is {given!r}; give the one that "
                "belongs to the checkpoint, or leave one of the two out"
            )
    return config, checkpoint


def cached(model_id: str) -> Path | None:
    """The file of an id where it is on this machine; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(str(model_id), known(model_id)[1])
    return Path(found) if isinstance(found, str) else None


def fetch(model_id: str) -> Path:
    """The file of an id, from the cache or from the hub.

    Raises
    ------
    RDSInputError
        If it cannot be had: no network, a hub that refuses, a full disk.
    """
    from huggingface_hub import hf_hub_download

    _, name = known(model_id)
    try:
        return Path(hf_hub_download(str(model_id), name))
    except Exception as cause:  # the hub's own, its client's, the file system's
        why, fix = _explain(cause, name)
        raise RDSInputError(
            f"{model_id}: {name} could not be fetched from the hub ({why}); {fix}, or give the path of {name}"
        ) from cause


def _explain(cause: Exception, name: str) -> tuple[str, str]:
    """What went wrong with the hub in words, and what mends it."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        return "it is kept for accounts that accepted its terms", "accept them on the hub and run hf auth login"
    if isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        return f"the hub refuses it, with status {status}", "run hf auth login, or set HF_TOKEN"
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return f"there is no {name} in it", f"see that HF_ENDPOINT, {constants.ENDPOINT}, has SAM2's own files"
    if isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if constants.is_offline_mode():
            return "HF_HUB_OFFLINE is set, and the cache does not have it", "unset HF_HUB_OFFLINE once"
        status = getattr(getattr(cause.__cause__, "response", None), "status_code", None)
        if status:
            return f"{constants.ENDPOINT} answers with status {status}", "try again later"
        return f"{constants.ENDPOINT} cannot be reached", "try again with a network"
    line = (str(cause).strip() or type(cause).__name__).partition("\n")[0][:200]
    return line, "try again"


def _stem(config) -> str:
    """A config's name as it tells sizes apart: without its folders and its suffix."""
    return Path(str(config)).name.removesuffix(".yaml")
