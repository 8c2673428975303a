"""The pages of the API, one for each public module, written from its `__all__` before Sphinx reads them."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

MODULES = (
    "model", "guidance", "parameterization", "schedules", "noise_distributions", "networks", "objectives", "samplers",
    "likelihood", "restoration", "degradations", "data", "training", "checkpoint", "hub", "metrics", "evaluation",
    "distributions", "kernels", "progress", "errors",
)  # fmt: skip

_OPTIONS = {"autoclass": ["   :members:"], "autofunction": [], "autodata": ["   :no-value:"]}


def write_pages(folder: Path) -> None:
    """One reStructuredText file for each module; an unchanged one keeps its date, so that Sphinx skips it."""
    folder.mkdir(exist_ok=True)
    modules = [import_module(f"scorefield.{name}") for name in MODULES]
    for name, module in zip(MODULES, modules, strict=True):
        file, text = folder / f"{name}.rst", _page(module)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def _page(module: ModuleType) -> str:
    """A table of the public names, then each source file's docstring with the names that it defines."""
    title = module.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
    lines += [".. list-table::", "   :widths: 35 65", ""]
    sources: dict[str, list[str]] = {}
    for name in module.__all__:
        kind, target, source, text = _member(module, name, getattr(module, name))
        sources.setdefault(source, []).extend([f".. {kind}:: {target}", *_OPTIONS[kind], ""])
        lines += [f"   * - :py:obj:`{name} <{target}>`", f"     - {_first_sentence(text)}"]
    lines.append("")
    for source, members in sorted(sources.items()):
        short = source.removeprefix("scorefield.")
        lines += [short, "-" * len(short), ""]
        if source.startswith(f"{title}."):  # not indexed: `hub.load` is a module and its function
            lines += [
                f".. automodule:: {source}",
                "   :no-members:",
                "   :no-index:",
                "",
            ]  # it may be named as its function
        lines += members
    return "\n".join(lines)


def _member(module: ModuleType, name: str, value: Any) -> tuple[str, str, str, str]:
    """The directive of a public name, the path that it is documented under, the module that defines it, its docstring.

    Raises:
        ValueError: the name has no docstring.
    """
    if inspect.isclass(value) or inspect.isfunction(value):
        kind = "autofunction" if inspect.isfunction(value) else "autoclass"
        if value.__doc__:
            return kind, f"{module.__name__}.{name}", value.__module__, value.__doc__
    for source, other in list(sys.modules.items()):  # a constant does not say where it is defined
        if source.startswith(module.__name__) and vars(other).get(name) is value:
            text = ModuleAnalyzer.for_module(source).find_attr_docs().get(("", name))
            if text:
                return "autodata", f"{source}.{name}", source, "\n".join(text)
    raise ValueError(f"{module.__name__}.{name} has no docstring")


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.:])(?<!App\.)(?<!Alg\.)(?<!eq\.)\s+(?=[A-Z])", paragraph)[0].rstrip(":")
