"""Slow tests are run rarely, so a fast one checks that what they use of histojax is still there.

Of every module with a slow test: attributes of histojax's modules exist, and functions and classes
take the arguments they are called with.
"""

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).parent
PATHS = [
    path
    for path in sorted(TESTS.rglob("test_*.py"))
    if "mark.slow" in path.read_text() and path != Path(__file__)
]


def problems(code: str) -> list[str]:
    """Attributes of histojax's modules that do not exist, and calls with the wrong arguments."""
    tree = ast.parse(code)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {}
    exec(compile(ast.Module(imports, []), "imports", "exec"), names)
    found = []

    def resolve(node: ast.AST) -> Any:
        """The histojax object that a dotted name stands for, or None."""
        value = None
        if isinstance(node, ast.Name):
            value = names.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(resolve(node.value), ModuleType):
            value = getattr(resolve(node.value), node.attr, None)
        origin = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        return value if str(origin).startswith("histojax") else None

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = resolve(node.value)
            if isinstance(module, ModuleType) and not hasattr(module, node.attr):
                found.append(f"line {node.lineno}: {module.__name__} has no {node.attr}")
        elif isinstance(node, ast.Call) and callable(function := resolve(node.func)):
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            partial = starred or len(keywords) < len(node.keywords)
            signature = inspect.signature(function)
            arguments = () if starred else node.args
            try:
                (signature.bind_partial if partial else signature.bind)(*arguments, **keywords)
            except TypeError as error:
                found.append(f"line {node.lineno}: {ast.unparse(node.func)}: {error}")
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_slow_tests_use_is_there(path):
    assert not problems(path.read_text())


def test_the_check_sees_what_is_gone_and_what_is_called_wrongly():
    found = problems(
        "from histojax import datasets\n"
        "from histojax.evaluation import metrics\n"
        "metrics.roc_auc_score(1, 2)\n"
        "datasets.load(1, no_such_argument=3)\n"
        "datasets.load(1)\n"
    )
    assert len(found) == 2
    assert "line 3: histojax.evaluation.metrics has no roc_auc_score" in found
    assert any("no_such_argument" in problem for problem in found)
