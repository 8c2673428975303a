"""Color profiles made by hand, by ICC.1:2001 (version 2): of CMYK as lut8 or lut16, of grey as a curve."""

import struct
from itertools import product

import numpy as np

D50 = (0.9642, 1.0, 0.8249)


def _fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(65536 * v) for v in values))


def _profile(space, kind, pcs, tags):
    """Header, directory and tags (ICC.1:2001, §6.1, §6.2)."""
    words = b"made by hand"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(12 + 67)
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0" + words + b"\0", b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50), **tags}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, kind, space, pcs) + bytes(12) + b"acsp" + bytes(28)
    return head + _fixed(*D50) + bytes(48) + table + body


def ink_lab(cmyk):
    """Lab of the 16 corners of CMYK, (N, 4) of 0 or 1: no ink is white, black covers all, colors add up in a and b."""
    c, m, y, k = np.asarray(cmyk, np.float64).T
    lightness = 100 - 40 * c - 30 * m - 10 * y
    return np.stack([lightness, -30 * c + 50 * m - 5 * y, -35 * c - 5 * m + 60 * y], axis=1) * (1 - k)[:, None]


CORNERS = np.array(list(product((0, 1), repeat=4)))  # the last ink varies fastest, as in the table


def cmyk_profile(depth=16):
    """A profile of CMYK whose inks mix linearly in Lab, from `ink_lab`."""
    lightness, a, b = ink_lab(CORNERS).T
    if depth == 16:  # version 2: 100 is 0xFF00, 0 of a and b is 0x8000
        nodes = np.rint(np.stack([lightness * 652.8, (a + 128) * 256, (b + 128) * 256], 1)).astype(">u2")
        line = struct.pack(">HH", 0, 65535)
        tables = struct.pack(">HH", 2, 2) + 4 * line + nodes.tobytes() + 3 * line
    else:
        nodes = np.rint(np.stack([lightness * 2.55, a + 128, b + 128], 1)).astype(np.uint8)
        line = bytes(range(256))
        tables = 4 * line + nodes.tobytes() + 3 * line
    head = (b"mft2" if depth == 16 else b"mft1") + bytes(4) + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": head + tables})


def grey_profile(curve):
    """A profile of grey: a number is the exponent of its tone curve, a function of 0…1 becomes 256 entries."""
    if callable(curve):
        entries = np.rint(65535 * curve(np.linspace(0, 1, 256))).astype(">u2")
        content = struct.pack(">I", len(entries)) + entries.tobytes()
    else:
        content = struct.pack(">IH", 1, round(256 * curve))
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + content})
