"""The package has no import cycles, including imports in functions and for types."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pygan

ROOT = Path(pygan.__file__).parent


def imports():
    """Every module with the package's modules that it imports. The package itself, which imports the public modules, is
    excluded: modules that need its version import it in a function."""
    files = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
    }
    del files["pygan"]
    graph = {}
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[module].update(n if n in files else node.module for n in names)
            elif isinstance(node, ast.Import):
                graph[module].update(alias.name for alias in node.names)
        graph[module] &= set(files)
    return graph


def test_there_are_no_import_cycles():
    graph = imports()
    assert "pygan._trainer_player" in graph["pygan._trainer_networks"]
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert (
        order.index("pygan._trainer_player")
        < order.index("pygan.trainer")
        < order.index("pygan.training.fit")
    )
