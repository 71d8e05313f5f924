"""The one error type that the command line prints without a stack trace."""


class UserError(Exception):
    """An error that the user can cure: its message names what was received, where, and what to do.

    The command line prints the message alone and ends with exit code 2. Anything else raised is a defect of ours.
    """
