"""Make the bundled image sets in `src/scorefield/assets/data` from their sources.

    python tools/make_assets.py --fashion FOLDER --emoji FOLDER --emoji-groups FILE

Each set becomes two lossless WebP sheets (one a split, tiles in row-major order) and a card:
a JSON file with title, source, authors, licence, shape, class names, labels and the SHA-256 of
the pixels. A label is one digit, so a split's labels are one string. Sheets are lossless: the
pixels that come out are those that went in, which `tests/data/test_bundled.py` checks.

Sources:
    Fashion-MNIST, the four IDX files (`train-images-idx3-ubyte.gz` …), MIT.
        https://github.com/zalandoresearch/fashion-mnist
    Fluent Emoji 3D as WebP files named by code points (the npm package
        `@lobehub/fluent-emoji-3d`, folder `assets`), MIT. https://github.com/microsoft/fluentui-emoji
    `data-by-emoji.json` of the npm package `unicode-emoji-json`, MIT: the Unicode group of each
        emoji. https://github.com/muan/unicode-emoji-json
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

OUT = Path(__file__).parents[1] / "src/scorefield/assets/data"
Pixels = npt.NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3)

MIT = """MIT License

{copyright}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DEGRADATIONS OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


# --- Fashion-MNIST -----------------------------------------------------------------------------


def fashion(folder: Path) -> dict[str, tuple[Pixels, list[int]]]:
    """The first 1,000 training and 200 test images of each class, classes taking turns."""
    return {
        "train": _first_of_each(folder, "train", 1000),
        "test": _first_of_each(folder, "t10k", 200),
    }


def _first_of_each(folder: Path, prefix: str, count: int) -> tuple[Pixels, list[int]]:
    images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    classes = np.frombuffer(labels, np.uint8)
    order = np.stack([np.flatnonzero(classes == c)[:count] for c in range(10)]).T.ravel()
    return pixels[order], classes[order].tolist()


# --- Fluent emoji ------------------------------------------------------------------------------

VARIATION, TONES, GENDERS = 0xFE0F, range(0x1F3FB, 0x1F400), (0x2640, 0x2642)
REGIONAL, MAN_OR_WOMAN = range(0x1F1E6, 0x1F200), (0x1F468, 0x1F469)
GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols & Flags",
)


def emoji(folder: Path, groups: Path, side: int = 64) -> dict[str, tuple[Pixels, list[int]]]:
    """One image for each distinct emoji, split by base code point.

    Skin tones, genders and families repeat their base, so they are left out; so are the country
    flags, which Microsoft does not publish. What stays: every single code point, the keycaps, and
    joined sequences that draw something new (polar bear, astronaut, heart on fire).
    """
    named = json.loads(groups.read_text(encoding="utf-8"))
    group_of = {_code_points(map(ord, text)): entry["group"] for text, entry in named.items()}
    files = {
        _code_points(int(c, 16) for c in re.split("[-_]", file.stem)): file for file in sorted(folder.glob("*.webp"))
    }
    drawn: dict[bytes, tuple[int, ...]] = {}  # by pixels: one image may serve two code points
    for code, file in sorted(files.items()):
        if code in group_of and _is_distinct(code):
            drawn.setdefault(_on_white(file, side).tobytes(), code)
    kept = sorted(drawn.values())
    bases = sorted({code[0] for code in kept})
    shuffled = np.random.default_rng(0).permutation(bases)
    held_out = set(shuffled[: len(bases) // 10].tolist())
    order = np.random.default_rng(1).permutation(len(kept))  # neighbours in Unicode look alike
    chosen = {
        "train": [kept[i] for i in order if kept[i][0] not in held_out],
        "test": [kept[i] for i in order if kept[i][0] in held_out],
    }
    return {
        split: (
            np.stack([_on_white(files[code], side) for code in codes]),
            [_label(group_of[code]) for code in codes],
        )
        for split, codes in chosen.items()
    }


def _code_points(points: Iterable[int]) -> tuple[int, ...]:
    return tuple(p for p in points if p != VARIATION)


def _is_distinct(code: tuple[int, ...]) -> bool:
    repeats = any(p in TONES or p in GENDERS or p in REGIONAL for p in code) or code[0] in MAN_OR_WOMAN
    return len(code) == 1 or not repeats


def _label(group: str) -> int:
    return GROUPS.index("Symbols & Flags" if group in ("Symbols", "Flags") else group)


def _on_white(file: Path, side: int) -> Pixels:
    image = Image.open(file).convert("RGBA")
    canvas = Image.new("RGBA", (max(image.size),) * 2, "white")
    corner = tuple((c - p) // 2 for c, p in zip(canvas.size, image.size, strict=True))
    canvas.alpha_composite(image, corner)
    return np.asarray(canvas.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))


# --- Writing -----------------------------------------------------------------------------------


def sheet(pixels: Pixels, columns: int) -> Pixels:
    """Tiles in row-major order, (rows · H, columns · W, …); the last row is filled with black."""
    n, h, w = pixels.shape[:3]
    rows = -(-n // columns)
    full = np.zeros((rows * columns, *pixels.shape[1:]), np.uint8)
    full[:n] = pixels
    tiles = full.reshape(rows, columns, *pixels.shape[1:]).swapaxes(1, 2)
    return tiles.reshape(rows * h, columns * w, *pixels.shape[3:])


def write(name: str, card: dict, splits: dict[str, tuple[Pixels, list[int]]], columns: int) -> None:
    """Write the sheets, the card and the licence of one set."""
    card["splits"] = {}
    for split, (pixels, labels) in splits.items():
        file = OUT / f"{name}-{split}.webp"
        Image.fromarray(sheet(pixels, columns)).save(file, lossless=True, quality=100, method=6)
        card["splits"][split] = {
            "n": len(pixels),
            "file": file.name,
            "columns": columns,
            "sha256": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
            "labels": "".join(map(str, labels)),
        }
        print(f"{file}: {len(pixels)} images, {file.stat().st_size / 1e6:.2f} MB")
    copyright_line = card.pop("copyright")
    (OUT / f"{name}.LICENSE").write_text(MIT.format(copyright=copyright_line), encoding="utf-8")
    text = json.dumps(card, indent=2, ensure_ascii=False)
    (OUT / f"{name}.json").write_text(text + "\n", encoding="utf-8")


FASHION_CARD = {
    "title": "Fashion-MNIST, a tenth",
    "summary": "grey images of clothing, 28×28, ten classes",
    "source": "https://github.com/zalandoresearch/fashion-mnist",
    "authors": "Han Xiao, Kashif Rasul, Roland Vollgraf (Zalando Research)",
    "reference": "Xiao et al. (2017), https://arxiv.org/abs/1708.07747",
    "licence": "MIT",
    "licence_file": "fashion.LICENSE",
    "copyright": "Copyright (c) 2017 Zalando SE, https://tech.zalando.com",
    "made": "The first 1,000 training and the first 200 test images of each class, unchanged, "
    "classes taking turns; lossless WebP sheets. Made by tools/make_assets.py.",
    "shape": [1, 28, 28],
    "class_names": ["T-shirt", "trouser", "pullover", "dress", "coat",
                    "sandal", "shirt", "sneaker", "bag", "ankle boot"],
}  # fmt: skip

EMOJI_CARD = {
    "title": "Fluent Emoji, 3D",
    "summary": "colour emoji on white, 64×64, eight groups",
    "source": "https://github.com/microsoft/fluentui-emoji, as packed in @lobehub/fluent-emoji-3d 1.1.0",
    "authors": "Microsoft Corporation",
    "licence": "MIT",
    "licence_file": "emoji.LICENSE",
    "copyright": "Copyright (c) Microsoft Corporation.",
    "made": "One image for each distinct emoji: no skin tones, genders, families or country flags. "
    "Alpha composited on white, 256 px reduced to 64 px by Lanczos, shuffled; a tenth of the base "
    "code points is the test split; lossless WebP sheets. Labels are the groups of Unicode's emoji "
    "list (flags joined to symbols). Made by tools/make_assets.py.",
    "shape": [3, 64, 64],
    "class_names": list(GROUPS),
}


def main() -> None:
    """Read the sources named on the command line and write both sets."""
    parser = argparse.ArgumentParser(description="Make the bundled image sets.")
    parser.add_argument("--fashion", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--emoji", type=Path, required=True, help="folder of WebP files")
    parser.add_argument("--emoji-groups", type=Path, required=True, help="data-by-emoji.json")
    asked = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    write("fashion", FASHION_CARD, fashion(asked.fashion), columns=100)
    write("emoji", EMOJI_CARD, emoji(asked.emoji, asked.emoji_groups), columns=40)


if __name__ == "__main__":
    main()
