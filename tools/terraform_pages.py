"""The README of every module under `terraform/`: hand-written text, then inputs, outputs and resources.

python -m tools.terraform_pages

The text above the marker is kept; the text below is made from the module's files.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "terraform"
MARKER = "<!-- Below: made by `python -m tools.terraform_pages`. -->"

_BLOCK = re.compile(
    r'^(variable|output|module|resource|data) "([^"]+)"(?: "([^"]+)")? \{\n(.*?)^\}', re.MULTILINE | re.DOTALL
)
_ARGUMENT = re.compile(r"^  (\w+)\s+= (.*?)(?=^  \w+ (?:\{| *=)|\Z)", re.MULTILINE | re.DOTALL)


def pages(sources: Path) -> list[Path]:
    """The paths of the READMEs: one beside every `versions.tf`."""
    return sorted(
        path.with_name("README.md") for path in sources.rglob("versions.tf") if ".terraform" not in path.parts
    )


def page(directory: Path, sources: Path) -> str:
    """The README of the module in `directory`."""
    readme = directory / "README.md"
    title = "Dropline on Google Cloud" if directory == sources else directory.name
    own = readme.read_text().partition(MARKER)[0] if readme.exists() else f"# {title}\n\n"
    text = "\n".join(path.read_text() for path in sorted(directory.glob("*.tf")))
    return f"{own}{MARKER}\n\n" + "\n".join(_sections(text))


def _sections(text: str) -> Iterator[str]:
    blocks = [match.groups() for match in _BLOCK.finditer(text)]
    variables = [(name, _arguments(body)) for kind, name, _, body in blocks if kind == "variable"]
    outputs = [(name, _arguments(body)) for kind, name, _, body in blocks if kind == "output"]
    made = sorted({name for kind, name, _, _ in blocks if kind in ("resource", "data")})
    modules = sorted(
        (name, _arguments(body)["source"].strip('"')) for kind, name, _, body in blocks if kind == "module"
    )
    yield "## Inputs\n\n| name | description | type | default |\n|---|---|---|---|"
    # Required variables come first.
    for name, found in sorted(variables, key=lambda row: "default" in row[1]):
        default = _code(found["default"]) if "default" in found else "**required**"
        yield f"| `{name}` | {_cell(found['description'])} | {_code(found['type'])} | {default} |"
    yield "\n## Outputs\n\n| name | description |\n|---|---|"
    yield from (f"| `{name}` | {_cell(found['description'])} |" for name, found in outputs)
    if modules:
        yield "\n## Modules\n\n| name | source |\n|---|---|"
        yield from (f"| `{name}` | [{source}]({source}) |" for name, source in modules)
    if made:
        yield "\n## Resources\n\n" + ", ".join(f"`{name}`" for name in made)
    yield ""


def _arguments(body: str) -> dict[str, str]:
    """The arguments at the top level of a block; nested text is part of their values."""
    plain = re.sub(r"^\s*#.*\n", "", body, flags=re.MULTILINE)
    return {match[1]: match[2].strip() for match in _ARGUMENT.finditer(plain)}


def _cell(text: str) -> str:
    return text.strip('"').replace('\\"', '"').replace("|", "\\|").replace("<", "\\<")


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def main() -> None:
    """Write all pages."""
    for readme in pages(SOURCES):
        readme.write_text(page(readme.parent, SOURCES))
        sys.stdout.write(f"{readme.relative_to(SOURCES.parent)}\n")


if __name__ == "__main__":
    main()
