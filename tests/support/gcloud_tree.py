"""The Google Cloud SDK's tree of commands and flags, from the installed SDK: no cloud, no login."""

import runpy
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_TREE = "data/cli/gcloud_completions.py"

#: Beginnings of commands on the pages that an older SDK may lack → the older beginnings. An empty older beginning
#: means that the command is not checked. `_NEWER_FLAGS` does the same for flags of these commands.
_NEWER: dict[tuple[str, ...], tuple[str, ...]] = {
    ("run", "worker-pools"): ("beta", "run", "worker-pools"),
    ("sql", "users", "assign-roles"): (),
}
_NEWER_FLAGS = {"--instances": "--scaling"}


@cache
def load_tree() -> dict[str, Any] | None:
    """The tree, with `commands` and `flags` at each level; None without an SDK."""
    program = shutil.which("gcloud")
    path = Path(program).resolve().parents[1] / _TREE if program else None
    if path is None or not path.exists():
        return None
    tree: dict[str, Any] = runpy.run_path(str(path))["STATIC_COMPLETION_CLI_TREE"]
    return tree


def mistake(tree: dict[str, Any], words: Sequence[str], *, whole: bool) -> str | None:
    """The mistake in `gcloud WORDS…`; None for a correct command.

    Args:
        tree: the tree from `load_tree`.
        words: the words after `gcloud`.
        whole: whether the words must be a command, and not just a group of commands.
    """
    words, older = _as_this_sdk_has_it(tree, words)
    if not words:
        return None
    node, flags = tree, dict(tree["flags"])
    rest = list(words)
    while rest and rest[0] in node["commands"]:
        node = node["commands"][rest.pop(0)]
        flags |= node["flags"]
    if node["commands"] and (whole or rest):
        return f"{' '.join(words[: len(words) - len(rest) + 1])} is no command"
    given = rest[: rest.index("--")] if "--" in rest else rest
    for word in given:
        name, _, value = word.partition("=")
        if name.startswith("-") and (told := _flag_mistake(flags, older.get(name, name), value)):
            return told
    return None


def _as_this_sdk_has_it(tree: dict[str, Any], words: Sequence[str]) -> tuple[Sequence[str], dict[str, str]]:
    for newer, older in _NEWER.items():
        if tuple(words[: len(newer)]) == newer and not _has(tree, newer):
            return [*older, *words[len(newer) :]] if older else [], _NEWER_FLAGS
    return words, {}


def _has(tree: dict[str, Any], path: Sequence[str]) -> bool:
    return not path or (path[0] in tree["commands"] and _has(tree["commands"][path[0]], path[1:]))


def _flag_mistake(flags: dict[str, Any], name: str, value: str) -> str | None:
    negated = "--" + name.removeprefix("--no-")
    if flags.get(negated) == "bool" and name != negated:
        return None
    if name not in flags:
        return f"{name} is no flag"
    choices = flags[name]
    if isinstance(choices, list) and value and "$" not in value and value not in choices:
        return f"{name} takes one of {', '.join(choices)}, not {value}"
    return None
