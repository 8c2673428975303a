"""What a run is going to do: for each image its settings, and the manifest's entry before it is restored."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.inputs import Found
from scorefield.cli.manifest import MANIFEST, Entry, Manifest, digest, stamped
from scorefield.cli.restore_options import Restoring
from scorefield.errors import UserError
from scorefield.files import refuse_existing

if TYPE_CHECKING:
    from scorefield.model import ScoreModel
    from scorefield.restoration import Approach

PAGE = "index.html"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a verb does with an image.

    Args:
        task: a name in `restoration.TASKS`, or "restore" where degradation is named.
        settings: of `restoration.restore`, for this image; a UserError says what this image lacks.
        check: sees, before any work, that the settings can be.
    """

    task: str
    settings: Callable[[Found], dict[str, Any]]
    check: Callable[["ScoreModel"], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Planned:
    """An image to restore.

    Args:
        found: the image.
        entry: what the manifest will say of it; with an error if it cannot be restored.
        settings: of `restoration.restore`, its own.
        share: how much of the work it is: its pixels.
    """

    found: Found
    entry: Entry
    settings: dict[str, Any]
    share: float = 0.0


def check_request(request: Restoring) -> None:
    """See that the answers can be written as they are asked for.

    Raises:
        UserError: they cannot.
    """
    from scorefield.data.encode import FORMATS

    if request.out.exists() and not request.out.is_dir():
        raise UserError(request.out, "is a file, not a folder.", "Name a folder for the answers: --out.")
    if request.format is not None and f".{request.format.lower().lstrip('.')}" not in FORMATS:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise UserError("--format", f"cannot write `{request.format}`.", f"Use one of {known}.")
    if request.map and request.candidates < 2:
        raise UserError("--map", "shows where candidates disagree; one cannot.", "Ask for more: --candidates 4.")
    if not (request.out / MANIFEST).exists():
        mend = "Choose another --out or pass --overwrite."
        refuse_existing(request.out / PAGE, overwrite=request.overwrite, mend=mend)


def draft(request: Restoring, work: Work, chosen: "Approach") -> Entry:
    """What the entries of all images have in common."""
    from scorefield.hub import find, is_pipeline
    from scorefield.restoration import METHODS

    method = next(name for name, known in METHODS.items() if known is chosen.method)
    settings = {
        "candidates": request.candidates,
        "average": request.average,
        "steps": request.steps,
        "schedule": request.schedule,
        "tile": request.tile,
        "format": request.format,
        "map": request.map,
    }
    return Entry(
        input="",
        stem="",
        bytes=0,
        mtime_ns=0,
        sha256="",
        task=work.task,
        settings=settings,
        seed=request.seed,
        model=request.model,
        model_sha256=request.model if is_pipeline(request.model) else digest(find(request.model)),
        method=method,
        sampler=request.sampler or chosen.method.sampler,
    )


def planned(found: Found, first: Entry, work: Work, manifest: Manifest) -> Planned:
    """The plan for one image."""
    from scorefield.data.image import ImageReadError, header
    from scorefield.restoration.tasks import jpeg_quality

    entry = replace(first, input=str(found.path.absolute()), stem=found.stem)
    try:
        entry = stamped(entry, found.path, manifest.restored.get(found.stem))
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
