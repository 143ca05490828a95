"""How a fault of a profile is worded: its key, its value, and what is allowed."""

import difflib
import re
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple = 2, 12, 12
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def explain(item: dict, model: type, inside: tuple = ()) -> str:
    """Word one pydantic error as ``key = value: what is allowed``; of ``model``, in section ``inside``."""
    item = {**item, "loc": (*inside, *item["loc"])}
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "extra_forbidden":
        known = list(_fields(model, item["loc"][:-1]))
        close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"{key} is unknown; {hint}"
    allowed = re.sub("^(Input|Value|Tuple) should", "must", item["msg"].removeprefix("Value error, "))
    return f"{key} = {_shown(item['input'])}: {allowed}"


def _shown(value) -> str:
    """A value as a message prints it; one line, whatever a file has nested or repeated in it."""
    try:
        return _SHORT.repr(value)[:200]
    except ValueError:  # Python prints no whole number of more than 4300 digits
        return f"a number of {value.bit_length()} bits"


def _fields(model: type, loc: tuple) -> dict:
    for part in loc:
        model = model.model_fields[part].annotation
    return model.model_fields
