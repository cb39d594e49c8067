"""The one exception that is a message to the user."""


class UserError(Exception):
    """A mistake the user can mend: its text is one line naming the file, field or setting and what would be right.

    The command line prints the text without a traceback and exits with code 2; from Python it is an ordinary exception.
    """
