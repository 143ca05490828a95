"""What a file is that was given as weights and cannot be read as such, in words, from its first bytes and its size."""

import json
import re
import zipfile
from pathlib import Path

MOST_BYTES_OF_HEADER = 2**22  # of a safetensors file: some 40,000 tensors; SAM2's largest model has a thousand
AGAIN = "fetch it again"
_CODE = re.compile(r"GLOBAL (\S+)")  # in torch's refusal: what a pickle would have called
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # how all but the oldest pickles begin


def what_is_wrong(path: Path, cause: Exception | None = None) -> tuple[str, str]:
    """What a file is instead of readable weights, and what mends it.

    Parameters
    ----------
    cause : Exception, optional
        What its reader raised. Nothing in the file was executed.

    Returns
    -------
    fault, fix : str
        The fault is "" where the file says nothing of itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not size:
        return "is empty", AGAIN
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, and not the file", "run git lfs pull where it came from, or fetch the file"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, and no weights", f"{AGAIN}, from the link that downloads"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"is cut short, at {size} bytes", AGAIN
    is_pickle = _PICKLE.match(start) is not None and start[8:9] != b"{"
    if path.suffix == ".safetensors" and not is_pickle:
        whole = _length_promised(start, path)
        return (f"is cut short, {size} of {whole} bytes", AGAIN) if whole and whole > size else ("", AGAIN)
    if start[8:10] in (b'{"', b"{}"):
        return "is a safetensors file by its content", "name it .safetensors"
    if (code := _CODE.search(str(cause))) is not None:
        return (
            f"asks for code beside tensors, which was not run ({code[1][:60]})",
            f"{AGAIN} from where you trust, as weights alone",
        )
    if is_pickle:
        return "is a bare pickle, which may hold code and was not run, or cut short", AGAIN
    return "", AGAIN


def lacks_model(keys) -> tuple[str, str]:
    """The same of a file that torch reads, with these keys and no ``model`` among them."""
    if keys is None:
        return "holds no mapping", "save {'model': model.state_dict()}"
    shown = ", ".join(str(key)[:40] for key in list(keys)[:4]) or "nothing"
    return f"has no 'model', it has {shown} ({len(keys)})", "save {'model': model.state_dict()}"


def _length_promised(start: bytes, path: Path) -> int | None:
    """The bytes that a safetensors header asks for; None where it says nothing of that."""
    try:
        length = int.from_bytes(start[:8], "little")
        if length > MOST_BYTES_OF_HEADER or 8 + length > path.stat().st_size:
            return 8 + length if length <= MOST_BYTES_OF_HEADER else None
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
