"""Looking at images: what each has suffered, and the commands that may help."""

import shlex
from dataclasses import asdict
from typing import Any

import typer

from scorefield.cli.batch import SOME_FAILED, check_options
from scorefield.cli.console import note, require_free, tell, write_json
from scorefield.cli.inputs import find_images
from scorefield.cli.restore_options import DEFAULT_MODEL, RestoreOptions
from scorefield.errors import UserError


def look(options: RestoreOptions, *, auto: bool) -> None:
    """Say what every image has suffered, and what to type.

    Args:
        options: of the command.
        auto: whether the images are restored next, which names what cannot be read or has nothing to restore, and
            writes --json.

    Raises:
        UserError: a folder without images, or no such model.
        typer.Exit: an image could not be read.
    """
    from scorefield.data.photo import Photo
    from scorefield.restoration.inspection import inspect_photo, proposals

    require_free(options.json, overwrite=options.overwrite)
    if auto:
        check_options(options)  # before the long look
    (limit, tasks), found = _abilities(options.model), find_images(options.inputs, options.out)
    facts: list[dict[str, Any]] = []
    failed, lacking = 0, set[str]()
    for one in found:
        try:
            seen = inspect_photo(Photo.read(one.path))
        except UserError as error:
            failed += 1
            if not auto:
                note(f"scorefield: {error}")
            continue
        made = proposals(seen, max_jpeg_quality=limit)
        if made or not auto:
            tell(f"{one.path}: {', '.join(each.finding for each in made) or 'nothing to restore'}")
        for each in made:
            if each.verb == "dejpeg" and auto:
                continue
            words = ["scorefield", each.verb, str(one.path), *each.options, "--out", str(options.out)]
            able = tasks is None or each.verb in tasks
            own = [] if options.model == DEFAULT_MODEL else ["--model", options.model]
            tell(f"  {shlex.join([*words, *(own if able else ['--model', 'MODEL'])])}")
            lacking |= set() if able else {each.verb}
        facts.append({"input": str(one.path), **asdict(seen), "proposals": [asdict(each) for each in made]})
    if lacking:
        tell(f"MODEL is one that was trained to {' or '.join(sorted(lacking))}; `{options.model}` was not")
    if auto:
        return
    write_json(options.json, facts)
    if failed:
        raise typer.Exit(SOME_FAILED if facts else 2)


def _abilities(name: str) -> tuple[int, set[str] | None]:
    """The quality of JPEG files up to which a model gains, and its tasks; None for one that is not trained for any."""
    from scorefield import checkpoint, hub
    from scorefield.restoration.tasks import MAX_QUALITY

    most = MAX_QUALITY - 1
    if hub.is_pipeline(name):
        return most, None
    path = hub.find(name)
    if hub.is_foreign(path):
        return most, set(hub.import_spandrel(path).spec.tasks)
    cards = [checkpoint.read_card(each)["spec"]["restoration"] for each in (path, hub.find(name, task="dejpeg"))]
    if cards[0] is None:
        return most, None
    return cards[1].get("max_jpeg_quality") or most, {*cards[0]["tasks"], *hub.specialists(name)}
