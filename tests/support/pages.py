"""The project's pages as programs see the pages: code, commands in the code, links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_OF_THE_CLOUD = ("deploy.md", "operate.md", "tear-down.md", "scaling.md", "costs.md")
#: The pages about the cloud; the names on these pages are compared with `terraform/`.
CLOUD_PAGES = [ROOT / "docs" / name for name in _OF_THE_CLOUD]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n)+")
_HEREDOC = re.compile(r"<<'?(?P<end>\w+)'?\n.*?^\s*(?P=end)$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def pages() -> list[Path]:
    """The README and all pages in docs/ and terraform/."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "terraform").rglob("*.md")]
    return sorted(path for path in found if ".terraform" not in path.parts)


def each_page_of(found: list[Path]) -> pytest.MarkDecorator:
    """A mark to run a test for each page, as the argument `page`."""
    return pytest.mark.parametrize("page", found, ids=[str(path.relative_to(ROOT)) for path in found])


@dataclass(frozen=True)
class Code:
    """A piece of code on a page; `language` is empty where the page names no language."""

    language: str
    body: str
    inline: bool = False


def code_of(text: str) -> Iterator[Code]:
    """Fenced blocks, indented blocks, and code within sentences."""
    for fence in _FENCE.finditer(text):
        yield Code(fence["language"], re.sub(rf"^{fence['indent']}", "", fence["body"], flags=re.MULTILINE))
    prose = _FENCE.sub("", text)
    for block in _INDENTED.findall(prose):
        yield Code("", block)
    for span in _INLINE.findall(_INDENTED.sub("", prose)):
        yield Code("", span, inline=True)


def commands(text: str, program: str) -> Iterator[tuple[list[str], bool]]:
    """The words after `program` in each command of the page, and whether the command is within a sentence."""
    for code in code_of(text):
        if code.language in {"", "sh", "console"}:
            for words in _simple_commands(code):
                if words and words[0].rpartition("/")[2] == program:
                    yield words[1:], code.inline


def _simple_commands(code: Code) -> Iterator[list[str]]:
    body = _HEREDOC.sub("", code.body).replace("\\\n", " ")
    for line in body.splitlines():
        if code.language == "console" and not line.startswith("$ "):
            continue
        yield from _split(_words(line.strip().removeprefix("$ ")))


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words = []
    try:
        for word in lexer:
            if word.startswith("#"):
                break
            words.append(word)
    except ValueError:
        # No shell's quotes: the output of a program.
        return []
    return words


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            yield command
            command = []
        elif command or not _ASSIGNMENT.fullmatch(word):
            command.append(word)


def anchors(text: str) -> set[str]:
    """The anchors of a page, which GitHub makes from headings, for the `#…` of links."""
    plain = _FENCE.sub("", text)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")
        for heading in _HEADING.findall(plain)
    }


def broken_links(path: Path) -> list[str]:
    """Relative links of a page to a missing file or a missing heading."""
    text = path.read_text()
    broken = []
    for link in _LINK.finditer(_FENCE.sub("", text)):
        target = (path.parent / link["path"]) if link["path"] else path
        anchored = link["anchor"] and target.suffix == ".md"
        if not target.exists() or (anchored and link["anchor"] not in anchors(target.read_text())):
            broken.append(link[0].removeprefix("]"))
    return broken
