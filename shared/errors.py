"""The one exception for what a user can mend."""


class UserError(ValueError):
    """Bad input. The message is one line that names the value, the rule and the way out; the exit code is 2."""


class TrainingError(RuntimeError):
    """A training that cannot go on. The message is one line; the exit code is 1."""
