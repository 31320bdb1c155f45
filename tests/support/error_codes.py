"""The error codes that the code can produce, found in its syntax trees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dropline.errors import AccessDenied, ObjectGone, PermanentError, TransientError

_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("dropline", "worker", "trigger_fn", "db", "operations")
_PARAMETERS = frozenset({"code", "error_code"})


def classes_with_codes() -> Iterator[type[Exception]]:
    """The classes of errors that a row can have, and their base classes."""
    for root in (PermanentError, TransientError, ObjectGone, AccessDenied):
        yield from _kinds(root)


def codes_of_classes() -> set[str]:
    """The default codes of the errors in `dropline.errors`."""
    kinds = (kind for kind in classes_with_codes() if kind.__module__ == "dropline.errors")
    return {str(getattr(kind, "default_code", "")) for kind in kinds}


def codes_in_the_source() -> set[str]:
    """The texts that are passed as a code, or returned as the code of a pair of code and message."""
    found: set[str] = set()
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                found |= {text for value in _passed_codes(node) for text in _texts(value)}
            elif (
                isinstance(node, ast.FunctionDef)
                and node.returns
                and ast.unparse(node.returns) == "tuple[str, str]"
            ):
                found |= set(_returned_codes(node))
    return found


def _kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


@cache
def _trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for room in _ROOMS for path in sorted((_ROOT / room).rglob("*.py"))]


@cache
def _positions() -> dict[str, set[int]]:
    """For each function or class with a parameter or field for a code: the parameter's place in a call."""
    found: dict[str, set[int]] = {}
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = _parameters(node)
                found.setdefault(node.name, set()).update(
                    at for at, name in enumerate(names) if name in _PARAMETERS
                )
    return found


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
    names = [each.arg for each in node.args.posonlyargs + node.args.args]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@cache
def _constants() -> dict[str, str]:
    """Texts with a name in capitals."""
    return {
        target.id: node.value.value
        for tree in _trees()
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _passed_codes(call: ast.Call) -> Iterator[ast.expr]:
    yield from (keyword.value for keyword in call.keywords if keyword.arg in _PARAMETERS)
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    yield from (call.args[at] for at in _positions().get(name, ()) if at < len(call.args))


def _texts(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
            yield node.value
        elif isinstance(node, ast.Name) and node.id in _constants():
            yield _constants()[node.id]


def _returned_codes(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            yield from _texts(node.value.elts[0])
