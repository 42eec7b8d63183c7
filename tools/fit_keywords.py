"""Writes pygan/training/_fit_keywords.pyi, which tells type checkers and editors the keywords of `pygan.fit`.

python tools/fit_keywords.py
"""

from __future__ import annotations

import argparse
import ast
import builtins
import inspect
import sys
from collections import defaultdict
from inspect import Parameter
from pathlib import Path
from types import ModuleType

from pygan import trainer
from pygan.training import fit_options
from pygan.training.fit_keywords import keywords

OUT = Path(__file__).parents[1] / "pygan" / "training" / "_fit_keywords.pyi"
OPENING = '''"""The keywords of `pygan.fit`, as type checkers see them."""

# Written by tools/fit_keywords.py from FitOptions and GANTrainer.
'''


def text() -> str:
    own = fit_options.FitOptions.__dataclass_fields__
    imports: dict[str, set[str]] = defaultdict(set)
    imports["typing_extensions"] |= {"Required", "TypedDict"}
    lines = []
    for name, parameter in keywords().items():
        annotation = str(parameter.annotation).replace("'", '"')
        for module, imported in sources(annotation, fit_options if name in own else trainer):
            imports[module].add(imported)
        if parameter.default is Parameter.empty:
            annotation = f"Required[{annotation}]"
        lines.append(f"    {name}: {annotation}\n")
    head = "".join(
        f"import {module}\n" for module, names in sorted(imports.items()) if names == {""}
    )
    head += "".join(
        f"from {module} import {', '.join(sorted(names))}\n"
        for module, names in sorted(imports.items())
        if names != {""}
    )
    return "".join([OPENING, head, "\nclass FitKeywords(TypedDict, total=False):\n", *lines])


def sources(annotation: str, module: ModuleType) -> list[tuple[str, str]]:
    """The imports for the names in an annotation of a module: (module, name), or "" as the name for the module
    itself."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom):
            found.update((alias.name, (str(node.module), alias.name)) for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update((alias.name, (alias.name, "")) for alias in node.names)
    names = {n.id for n in ast.walk(ast.parse(annotation)) if isinstance(n, ast.Name)}
    used = sorted(name for name in names if not hasattr(builtins, name))
    return [found.get(name, (module.__name__, name)) for name in used]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    out.write_text(text(), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
