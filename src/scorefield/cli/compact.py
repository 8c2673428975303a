"""Names of millions of files in little memory: their letters, or eight bytes of their digest.

Two of n names share a digest of 64 bits with a probability below n²/2^65, for a million names 3·10⁻⁸.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RECENT = 4096  # places that are not in order yet


class Names:
    """Names in order, none of which holds a NUL, as one string of bytes.

    Args:
        names: the first of them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._letters, self._n = bytearray(), 0
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._letters += _bytes(name) + b"\0"
        self._n += 1

    def __len__(self) -> int:
        """How many there are."""
        return self._n

    def __iter__(self) -> Iterator[str]:
        """The names."""
        begin = 0
        while begin < len(self._letters):
            end = self._letters.index(0, begin)
            yield self._letters[begin:end].decode("utf-8", "surrogatepass")
            begin = end + 1


class NameSet:
    """A set of names, as eight bytes each.

    Args:
        names: what is in it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        import numpy as np

        self._keys = array("Q", map(_key, names))
        np.frombuffer(self._keys, np.uint64).sort()

    def __contains__(self, name: str) -> bool:
        """Whether the name is in it."""
        key = _key(name)
        place = bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key


class Places:
    """Where the line of each name begins, in sixteen bytes; of two lines of a name the later one counts."""

    def __init__(self) -> None:
        import numpy as np

        self._keys, self._places = np.empty(0, np.uint64), np.empty(0, np.uint64)
        self._recent: dict[int, int] = {}

    def __setitem__(self, name: str, place: int) -> None:
        """Note the place of a name."""
        self._recent[_key(name)] = place
        if len(self._recent) > max(_RECENT, len(self._keys) // 16):
            self._sort()

    def get(self, name: str) -> int | None:
        """The place of a name, or of another one of the same digest."""
        import numpy as np

        key = _key(name)
        if key in self._recent:
            return self._recent[key]
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        return int(self._places[at]) if at < len(self._keys) and int(self._keys[at]) == key else None

    def __len__(self) -> int:
        """How many names there are."""
        self._sort()
        return len(self._keys)

    def _sort(self) -> None:
        if not self._recent:
            return
        import numpy as np

        keys = np.concatenate([self._keys, np.fromiter(self._recent.keys(), np.uint64, len(self._recent))])
        places = np.concatenate([self._places, np.fromiter(self._recent.values(), np.uint64, len(self._recent))])
        order = np.lexsort((places, keys))
        last = np.append(keys[order][1:] != keys[order][:-1], True)
        self._keys, self._places = keys[order][last], places[order][last]
        self._recent.clear()


def repeated(names: Iterable[str], n: int) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Whether each of n names comes more than once, and whether it came before."""
    import numpy as np

    keys = np.fromiter(map(_key, names), np.uint64, n)
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    often, before = np.zeros(n, bool), np.zeros(n, bool)
    before[order[1:][same]] = True
    often[order[:-1][same]] = True
    return often | before, before


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(_bytes(name), digest_size=8).digest(), "little")
