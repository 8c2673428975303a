"""The documentation's code runs."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["extending"])
def test_the_code_of_a_page_runs_in_order(page, monkeypatch, tmp_path):
    """Every ```python block, in one namespace."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    module = ModuleType(page)  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, page, module)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    assert blocks
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], f"docs/{page}.md", "exec"), vars(module))
