"""The error of wrong user input, one line: where, what, and how to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["ImageReadError", "NothingToRestore", "UserError", "did_you_mean"]


class UserError(Exception):
    """Wrong input that the user can correct; the command line prints it and exits with 2.

    Args:
        where: the path, option or key.
        what: what is wrong with it.
        mend: what to do about it.
    """

    def __init__(self, where: object, what: str, mend: str = "") -> None:
        self.where, self.what, self.mend = str(where), what, mend
        super().__init__(f"{where}: {what}" + (f" {mend}" if mend else ""))


class NothingToRestore(UserError):  # noqa: N818
    """An image that a restoration would not improve; in a folder it is skipped, and the others go on."""


class ImageReadError(Exception):
    """Why a file cannot be read; a folder skips it, for a single file it becomes a UserError."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or all known names."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(known)}."
