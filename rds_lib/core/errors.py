"""The one error a user can cause: what is wrong, where, what is allowed, how to mend it."""


class RDSInputError(ValueError):
    """Bad input from a person: names the file or value, the allowed range and the fix."""


def plain(text: object) -> str:
    """A message without the control codes that names of files may hold, which a terminal would obey: spelt out."""
    return "".join(sign if sign.isprintable() or sign in "\n " else ascii(sign)[1:-1] for sign in str(text))
