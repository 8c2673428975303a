"""The error of wrong user input, one line: where, what, and how to correct it.

Names of files and text from files are written by others. `printable` is what every line goes through that a terminal,
a page or an error shows.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["ImageReadError", "NothingToRestore", "UserError", "did_you_mean", "printable"]

# C0 and C1 (escape sequences), bidirectional controls (UAX #9), line and paragraph separators, lone surrogates
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""The text in one line that shows as it is: control characters are written out, as in \x1b, \n and \u202e."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


class UserError(Exception):
    """Wrong input that the user can correct; the command line prints it and exits with 2.

    Args:
        where: the path, option or key.
        what: what is wrong with it.
        mend: what to do about it.
    """

    def __init__(self, where: object, what: str, mend: str = "") -> None:
        self.where, self.what, self.mend = str(where), what, mend
        words = " ".join(f"{what} {mend}".split())
        super().__init__(f"{printable(where)}: {printable(words)}")


class NothingToRestore(UserError):  # noqa: N818
    """An image that a restoration would not improve; in a folder it is skipped, and the others go on."""


class ImageReadError(Exception):
    """Why a file cannot be read; a folder skips it, for a single file it becomes a UserError."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or all known names."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(known)}."
