"""The exceptions for what a user can mend: each message is one line."""


class UserError(ValueError):
    """Bad input. The message is one line that names the value, the rule and the way out; the exit code is 2."""


class TrainingError(RuntimeError):
    """A training that cannot go on. The message is one line; the exit code is 1."""


def in_one_line(error: BaseException) -> str:
    """Type and message of an error that somebody else raised, cut at 200 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
