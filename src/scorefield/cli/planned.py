"""What a run is going to do: for each picture its settings, and the manifest's entry before it is mended."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.inputs import Found
from scorefield.cli.manifest import MANIFEST, Entry, Manifest, digest, stamped
from scorefield.cli.mending import Mending
from scorefield.errors import UserError
from scorefield.files import refuse_existing

if TYPE_CHECKING:
    from scorefield.model import ScoreModel
    from scorefield.restoration import Approach

PAGE = "index.html"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a verb does with a picture.

    Args:
        task: a name in `restoration.TASKS`, or "restore" where damage is named.
        settings: of `restoration.restore`, for this picture; a UserError says what this picture lacks.
        check: sees, before any work, that the settings can be.
    """

    task: str
    settings: Callable[[Found], dict[str, Any]]
    check: Callable[["ScoreModel"], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A picture to mend.

    Args:
        found: the picture.
        entry: what the manifest will say of it; with an error if it cannot be mended.
        settings: of `restoration.restore`, its own.
        share: how much of the work it is: its pixels.
    """

    found: Found
    entry: Entry
    settings: dict[str, Any]
    share: float = 0.0


def check_wish(wish: Mending) -> None:
    """See that the answers can be written as they are asked for.

    Raises:
        UserError: they cannot.
    """
    from scorefield.data.encode import FORMATS

    if wish.out.exists() and not wish.out.is_dir():
        raise UserError(wish.out, "is a file, not a folder.", "Name a folder for the answers: --out.")
    if wish.format is not None and f".{wish.format.lower().lstrip('.')}" not in FORMATS:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise UserError("--format", f"cannot write `{wish.format}`.", f"Use one of {known}.")
    if wish.map and wish.candidates < 2:
        raise UserError(
            "--map", "shows where candidates disagree; one cannot.", "Ask for more: --candidates 4."
        )
    if not (wish.out / MANIFEST).exists():
        mend = "Choose another --out or pass --overwrite."
        refuse_existing(wish.out / PAGE, overwrite=wish.overwrite, mend=mend)


def draft(wish: Mending, work: Work, chosen: "Approach") -> Entry:
    """What the entries of all pictures have in common."""
    from scorefield.hub import find, is_pipeline
    from scorefield.restoration import METHODS

    method = next(name for name, known in METHODS.items() if known is chosen.method)
    settings = {
        "candidates": wish.candidates,
        "average": wish.average,
        "steps": wish.steps,
        "ladder": wish.ladder,
        "tile": wish.tile,
        "format": wish.format,
        "map": wish.map,
    }
    return Entry(
        input="",
        stem="",
        bytes=0,
        mtime_ns=0,
        sha256="",
        task=work.task,
        settings=settings,
        seed=wish.seed,
        model=wish.model,
        model_sha256=wish.model if is_pipeline(wish.model) else digest(find(wish.model)),
        method=method,
        sampler=wish.sampler or chosen.method.sampler,
    )


def planned(found: Found, first: Entry, work: Work, manifest: Manifest) -> Planned:
    """The plan for one picture."""
    from scorefield.data.images import ImageReadError, header
    from scorefield.restoration.tasks import jpeg_quality

    entry = replace(first, input=str(found.path.absolute()), stem=found.stem)
    try:
        entry = stamped(entry, found.path, manifest.mended.get(found.stem))
        own = work.settings(found)
    except UserError as error:
        return Planned(found=found, entry=replace(entry, error=str(error)), settings={})
    told = json.loads(json.dumps({**own, **_digests(own), **first.settings}, default=str))
    entry = replace(entry, settings=told)
    try:
        (height, width), _ = header(found.path)
    except ImageReadError:
        return Planned(found=found, entry=entry, settings=own, share=1)  # its own turn will tell
    entry = replace(entry, jpeg_quality=jpeg_quality(found.path))
    return Planned(found=found, entry=entry, settings=own, share=height * width)


def _digests(settings: dict[str, Any]) -> dict[str, str]:
    """Of the files that settings name: another mask under the same name is another setting."""
    paths = {name: Path(value) for name, value in settings.items() if isinstance(value, str | Path)}
    return {f"{name}_sha256": digest(path) for name, path in paths.items() if path.is_file()}
