"""What the nodes' code versions cover: a change of any of our code that a node runs must run it again."""

import ast
import importlib.util
import pathlib

import pytest

from pipeline.dag import _EXPORT, _IDS, _LIBRARY, _PUSH, _SEARCH

OURS = ("components", "keras_dimgrow", "pipeline", "serving")


def find_sources(name: str) -> list[pathlib.Path]:
    spec = importlib.util.find_spec(name)
    origin = pathlib.Path(spec.origin)
    return sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]


def find_imports(source: pathlib.Path) -> set[str]:
    """Our modules that a file imports, from a package those that it takes out of it."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if node.module in OURS and importlib.util.find_spec(name)]
            found.update(modules or [node.module])
    return found


NODES = {
    "ExampleGen": ("pipeline.example_gen",),
    "Transform": (*_IDS, "keras_dimgrow"),  # which loads earlier models, and is not run by Transform
    "DimSearch": _SEARCH,
    "Trainer": (*_LIBRARY, *_EXPORT),
    "Pusher": _PUSH,
}


@pytest.mark.parametrize("covered", NODES.values(), ids=NODES)
def test_a_nodes_code_version_covers_all_of_our_modules_that_it_imports(covered):
    imported = {name for module in covered for source in find_sources(module) for name in find_imports(source)}

    assert {name for name in imported if not any(f"{name}.".startswith(f"{known}.") for known in covered)} == set()
