"""The one error a user can cause. The command line prints it as a single sentence and exits with code 2."""


class UserError(ValueError):
    """Something the user gave is not right: says what was found, what was expected, what to do."""
