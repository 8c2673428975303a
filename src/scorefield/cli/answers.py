"""Answers on the disk: written whole, never over others unasked, with a page to see them by.

They are written into a hidden folder first. Then the manifest's line is written, and then they take their
places; whatever the moment of a kill, the same command restores what is not whole.
"""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scorefield.cli.inputs import Found
from scorefield.cli.manifest import Entry, Manifest
from scorefield.cli.restore_options import Restoring
from scorefield.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from scorefield.restoration import Restored

_ANSWER = re.compile(r"(.+)-(\d+(-page)?|sheet|map|before)\.[A-Za-z]+")
_NUMBERED = re.compile(r"-\d+\.[A-Za-z]+$")
_IN_BROWSERS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp"})
_HIDDEN = ".restoring-"
_SEEN = 1600  # pixels of a side on the page


def refuse_answers(out: Path, images: list[Found]) -> None:
    """See that no image has answers in `out` already.

    Raises:
        UserError: names the first that is in the way.
    """
    folders = {(out / one.stem).parent for one in images}
    there = {
        found.parent / match[1]: found
        for folder in folders
        if folder.is_dir()
        for found in sorted(folder.iterdir(), reverse=True)
        if (match := _ANSWER.fullmatch(found.name))
    }
    taken = [there[out / one.stem] for one in images if out / one.stem in there]
    if taken:
        others = f", and {len(taken) - 1} like it" if len(taken) > 1 else ""
        raise UserError(
            taken[0],
            f"already exists, of other settings or another image{others}.",
            "Choose another --out or pass --overwrite.",
        )


def keep(restored: "Restored", entry: Entry, request: Restoring, manifest: Manifest, waiting: list[Entry]) -> Entry:
    """Write the answers and, after the lines that are waiting, theirs; the entry, with the files' names."""
    out = request.out
    hidden = out / f"{_HIDDEN}{os.getpid()}"
    path = hidden / entry.stem
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = restored.save(path.parent, stem=path.name, format=request.format, with_map=request.map)
        before = _write_small(restored.degraded, path.with_name(f"{path.name}-before.png"))
        seen = _write_for_page(restored, written)
        names = [part.relative_to(hidden).as_posix() for part in (*written, before, *seen)]
        n = len(written)
        notes = _left_behind(restored, written[0])
        entry = replace(entry, outputs=names[:n], before=names[n], page=names[n + 1 :], notes=notes)
        if request.overwrite:
            for name in names:
                (out / name).unlink(missing_ok=True)
        manifest.append(*waiting, entry)
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            if not (out / name).exists():
                (hidden / name).replace(out / name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return entry


def sweep(out: Path) -> None:
    """Remove what killed runs have left half-written."""
    for folder in out.glob(f"{_HIDDEN}*"):
        number = folder.name.removeprefix(_HIDDEN)
        if number.isdecimal() and not _runs(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and does nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


def _write_small(image: "Image.Image", path: Path) -> Path:
    """The image, reduced to what a page shows."""
    from scorefield.data.grids import save_image

    small = image.copy()
    small.thumbnail((_SEEN, _SEEN))
    save_image(small, path)
    return path


def _write_for_page(restored: "Restored", written: list[Path]) -> list[Path]:
    """PNGs of the answers, reduced to what a page shows, where browsers do not show the files themselves."""
    if written[0].suffix.lower() in _IN_BROWSERS:
        return []
    paths = [path.with_name(f"{path.stem}-page.png") for path in written[: len(restored.levels)]]
    for path, image in zip(paths, restored.images, strict=True):
        _write_small(image, path)
    return paths


def _left_behind(restored: "Restored", answer: Path) -> list[str]:
    """What of the image's file its answer lacks, beside what is lost in any JPEG."""
    if restored.source is None:
        return []
    lost = [words for words in restored.source.lost(answer) if words != "each pixel exactly"]
    return [*restored.source.notes, *(f"without {words}" for words in lost)]


def write_run_page(out: Path, manifest: Manifest) -> Path:
    """The page of all images that the manifest knows and whose files are there."""
    from scorefield.restoration.page import ShownImage, write_page

    shown: list[ShownImage] = []
    for entry in sorted(manifest.restored.values(), key=lambda entry: entry.stem):
        answers = [name for name in entry.outputs if _NUMBERED.search(name)]
        seen = entry.page or answers
        if entry.before is None or not all((out / name).is_file() for name in (entry.before, *seen)):
            continue
        shown.append(
            ShownImage(
                title=entry.stem,
                before=entry.before,
                after=seen,
                map=next((name for name in entry.outputs if name.endswith("-map.png")), None),
                facts=_facts(entry),
                files=answers if entry.page else (),
            )
        )
    return write_page(out, shown)


def _facts(entry: Entry) -> dict[str, str]:
    facts = {
        "task": entry.task,
        "input": entry.input,
        "model": entry.model,
        "method": f"{entry.method}, {entry.sampler}, {entry.evaluations} evaluations",
        "seed": str(entry.seed),
        "time": f"{entry.seconds:.3g} s",
    }
    return facts if entry.jpeg_quality is None else facts | {"JPEG quality": str(entry.jpeg_quality)}
