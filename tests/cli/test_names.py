"""Names and texts that others wrote: what a terminal and a page show of them."""

import html
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from scorefield.cli import console, page
from scorefield.errors import UserError, printable

HOSTILE = {
    "title": "a\x1b]0;owned\x07.png",
    "clear": "\x1b[2J\x1b[31mred.png",
    "c1": "a\x9b31m.png",
    "line": "a\nscorefield: all is well.png",
    "return": "a\rb.png",
    "bidi": "photo_\u202egnp.exe",
    "isolate": "a\u2066b\u2069.png",
    "separator": "a\u2028b\u2029c\x85d.png",
    "surrogate": "caf\udce9.png",
    "markup": "a[red]b[/red].png",
    "link": "[link=https:example.org]x.png",
    "emoji": "a:smile:.png",
    "null": "a\0b.png",
    "tab": "a\tb\x7f.png",
}
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that keeps what is printed."""
    kept = io.StringIO()
    made = Console(file=kept, force_terminal=True, highlight=False, emoji=False, width=200, color_system="truecolor")
    monkeypatch.setattr(console, "_console", lambda **_: made)
    return kept


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_line_shows_a_name_as_it_is(terminal, kind):
    console.tell(f"restored {HOSTILE[kind]}")
    console.note(f"skipped {HOSTILE[kind]}")
    console.table({"file": HOSTILE[kind]}, title=HOSTILE[kind])
    told = terminal.getvalue()
    assert not _CONTROLS.search(told)
    assert told.splitlines()[0] == f"restored {printable(HOSTILE[kind])}" and len(told.splitlines()) == 4


@pytest.mark.parametrize("kind", HOSTILE)
def test_so_do_tables_and_bars(terminal, kind):
    console.columns(HOSTILE[kind], ["name", HOSTILE[kind]], [["x", HOSTILE[kind]]])
    with console.progress(HOSTILE[kind]) as show:
        show(0.5, HOSTILE[kind])
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())  # rich's own colors and cursor
    assert not _CONTROLS.search(told.replace("\r", ""))
    assert told.count(printable(HOSTILE[kind])) >= 4


@pytest.mark.parametrize("kind", HOSTILE)
def test_so_does_an_error(kind):
    told = str(UserError(Path(HOSTILE[kind]), f"no such file {HOSTILE[kind]}."))
    assert "\n" not in told and not _CONTROLS.search(told)
    assert told.startswith(f"{printable(HOSTILE[kind])}: no such file ")


@pytest.mark.parametrize("kind", sorted(set(HOSTILE) - {"null", "surrogate"}))
def test_so_does_the_program(call, tmp_path, kind):
    told = call("dejpeg", tmp_path / HOSTILE[kind].replace("/", ""), "--out", tmp_path / "out").complaint()
    assert not _CONTROLS.search(told)
    told = call("sample", HOSTILE[kind], "--out", tmp_path / "x.png").complaint()
    assert not _CONTROLS.search(told)


@pytest.mark.parametrize(
    "name", [*HOSTILE.values(), '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "' onx='"]
)
def test_a_page_shows_names_as_text(tmp_path, name):
    shown = page.ShownImage(title=name, before=name, after=[name, name], map=name, facts={name: name}, files=[name] * 2)
    written = page.write_page(tmp_path, [shown], title=name).read_text(encoding="utf-8")
    body = written.split("<body", 1)[1] if "<body" in written else written
    assert not _CONTROLS.search(written)
    assert "<img src=x" not in body and "onx='" not in html.unescape(re.sub(r'"[^"]*"', "", body)).replace(name, "")
    assert 'href="javascript' not in body and 'src="javascript' not in body


def test_names_of_other_scripts_are_left_alone():
    for name in ("café.jpg", "写真.png", "תמונה.png", "صورة.png", "👩\u200d🚀.png", "a b.png"):
        assert printable(name) == name
