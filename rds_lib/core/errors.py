"""The one error a user can cause: what is wrong, where, what is allowed, how to mend it."""


class RDSInputError(ValueError):
    """Bad input from a person: names the file or value, the allowed range and the fix."""
