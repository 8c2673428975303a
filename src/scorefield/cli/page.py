"""A page to see restored images by: before and after under a slider, candidates, and where they differ.

One HTML file that needs nothing else but the images beside it: it opens from the disk, without a network.
"""

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from scorefield.errors import printable
from scorefield.files import write_atomic

PAGE = "index.html"


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """What a page shows of one image; paths are relative to the page, with / between their parts.

    Args:
        title: what it is called.
        before: the degraded image.
        after: the candidates, the first one under the slider; as browsers show them: PNG, JPEG, WebP, AVIF.
        map: where they differ.
        facts: what was done, in words, by name.
        files: the candidates' own files, to be linked, where they are others than those shown (TIFF, HEIC).
    """

    title: str
    before: str
    after: Sequence[str]
    map: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An image without results.

    Args:
        name: what it is called.
        why: in words.
        skipped: whether there was nothing to restore; else it failed.
    """

    name: str
    why: str
    skipped: bool


def write_page(
    folder: str | Path,
    entries: Sequence[ShownImage],
    left: Sequence[LeftOut] = (),
    *,
    title: str = "Restored images",
) -> Path:
    """Write index.html into the folder, in one step and over the one before; its path."""
    template = files("scorefield").joinpath("assets", "restored.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=_text(title),
        count="1 image" if len(entries) == 1 else f"{len(entries)} images",
        parts="\n".join([*map(_section, entries), *_left_out(left)]),
    )
    return write_atomic(Path(folder) / PAGE, page)


def _left_out(images: Sequence[LeftOut]) -> Iterator[str]:
    """A list of those that were skipped, and one of those that failed."""
    for skipped, heading in ((True, "skipped: nothing to restore"), (False, "failed")):
        rows = [f"<dt>{_text(one.name)}</dt><dd>{_text(one.why)}</dd>" for one in images if one.skipped == skipped]
        if rows:
            yield f"<section><h2>{heading}</h2><dl>{''.join(rows)}</dl></section>"


def _section(entry: ShownImage) -> str:
    own = entry.files or entry.after
    thumbs = _thumbs(entry.after, own) if len(entry.after) > 1 else ""
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(words)}</dd>" for name, words in entry.facts.items())
    link = f'<a class="file" href="{_url(own[0])}">{_text(own[0])}</a>'
    return (
        f'<section><h2>{_text(entry.title)}</h2><div class="row"><div>{_slider(entry)}{thumbs}</div>'
        f"<div><dl>{facts}<dt>file</dt><dd>{link}</dd></dl>{_map(entry)}</div></div></section>"
    )


def _slider(entry: ShownImage) -> str:
    """Both images, one upon the other, and a range over them that moves the seam."""
    title = _text(entry.title)
    return (
        '<div class="pair" style="--at:50%">'
        f'<img class="after" src="{_url(entry.after[0])}" alt="{title}, after" loading="lazy">'
        f'<img class="before" src="{_url(entry.before)}" alt="{title}, before" loading="lazy">'
        '<i aria-hidden="true"></i><b class="l">before</b><b class="r">after</b>'
        f'<input type="range" min="0" max="100" step="0.1" value="50" aria-label="{title}: before and after">'
        "</div>"
    )


def _thumbs(shown: Sequence[str], own: Sequence[str]) -> str:
    """A button for each candidate that puts it under the slider."""
    buttons = (
        f'<button type="button" aria-pressed="{str(k == 0).lower()}" title="{_text(file)}"'
        f' data-src="{_url(image)}" data-file="{_url(file)}" aria-label="candidate {k + 1}">'
        f'<img src="{_url(image)}" alt="" loading="lazy">{k + 1}</button>'
        for k, (image, file) in enumerate(zip(shown, own, strict=True))
    )
    return f'<div class="thumbs" role="group" aria-label="candidates">{"".join(buttons)}</div>'


def _map(entry: ShownImage) -> str:
    if entry.map is None:
        return ""
    url, words = _url(entry.map), "where the candidates differ: black not at all, white most"
    return (
        f'<figure><a href="{url}"><img src="{url}" alt="{words}" loading="lazy"></a>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _text(words: str) -> str:
    """What others wrote, without markup and control characters."""
    return html.escape(printable(words))


def _url(path: str) -> str:
    """A relative URL; its dot keeps a name such as `a:b.png` from being read as a scheme."""
    return html.escape("./" + quote(os.fsencode(path)))
