"""The one exception for bad input: a line that names the thing and the remedy."""


class TLEError(Exception):
    """Bad input that the user can mend.

    The message is one line that names the file, row or parameter and the remedy.
    The command line prints it and exits with status 2; a notebook shows the line without a traceback.
    """

    def _render_traceback_(self):
        """Lines IPython shows in place of a traceback."""
        return [f"Stopped: {self}"]
