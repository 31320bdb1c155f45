"""Rules for the Dockerfile beyond hadolint's rules; a rule yields a text for each breach."""

import re
from collections.abc import Callable, Iterator

from tests.support.dockerfile import Dockerfile, Instruction, Stage

#: The built images, and whether each image runs for long.
IMAGES = {"function": True, "worker": True, "migrations": False, "gallery": True}
_TARGETS = (*IMAGES, "local")
_PINNED = re.compile(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?")
_BY_DIGEST = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+@sha256:[0-9a-f]{64}")
#: The stage of the Cloud SQL Auth Proxy, which has one program.
_PROXY = "cloud-sql-proxy"
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)


def base_is_pinned(dockerfile: Dockerfile) -> Iterator[str]:
    """Every stage begins with another stage or the base image, at an exact version; the proxy has a digest."""
    if not _PINNED.fullmatch(dockerfile.arguments.get("PYTHON_IMAGE", "")):
        yield "PYTHON_IMAGE has no exact version"
    if not _BY_DIGEST.fullmatch(dockerfile.arguments.get("PROXY_IMAGE", "")):
        yield "PROXY_IMAGE has no version and digest"
    for stage in dockerfile.stages.values():
        base = "${PROXY_IMAGE}" if stage.name == _PROXY else "${PYTHON_IMAGE}"
        if stage.base not in dockerfile.stages and stage.base != base:
            yield f"{stage.name} begins with {stage.base}"


def nobody_is_root(dockerfile: Dockerfile) -> Iterator[str]:
    """The account is a number other than 0: a runtime that refuses root cannot look up a name."""
    for stage in _targets(dockerfile):
        user = stage.last("USER")
        if not user or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.value):
            yield f"{stage.name} runs as {user.value if user else 'root'}"


def health_is_checked(dockerfile: Dockerfile) -> Iterator[str]:
    """A long-running image has a health check with limits; a job's image disables the check."""
    for name, runs_long in IMAGES.items():
        check = dockerfile.stages[name].last("HEALTHCHECK")
        if check is None or (check.value == "NONE") is runs_long:
            yield f"{name}: HEALTHCHECK {check.value if check else 'is missing'}"
        elif runs_long and not all(check.flag(limit) for limit in ("interval", "timeout", "start-period")):
            yield f"{name}: HEALTHCHECK without limits"


def no_shell_is_process_1(dockerfile: Dockerfile) -> Iterator[str]:
    """Signals reach the program: the exec form, without a shell or an entry point in front."""
    for stage in _targets(dockerfile):
        for instruction in filter(None, (stage.last("CMD"), stage.last("HEALTHCHECK"))):
            if instruction.value != "NONE" and _first_word(instruction) in {"", "sh", "bash", "/bin/sh"}:
                yield f"{stage.name}: {instruction.name} {instruction.value}"
        if stage.last("CMD") is None or stage.last("ENTRYPOINT") is not None:
            yield f"{stage.name} needs a CMD and no ENTRYPOINT"


#: For Triton, which compiles at the first start of the engine.
_COMPILER = (
    "apt-get update",
    "apt-get install --yes --no-install-recommends gcc libc6-dev",
    "rm -rf /var/lib/apt/lists/*",
)


def packages_are_pinned(dockerfile: Dockerfile) -> Iterator[str]:
    """pip installs and builds by the constraints or without dependencies; apt-get installs the compiler alone."""
    for stage in dockerfile.stages.values():
        for run in stage.all("RUN"):
            for command in re.split(r"&&|\|\||;", run.value):
                free = "--constraint constraints.txt" not in command and "--no-deps" not in command
                if re.search(r"\bpip\b.* (install|wheel)\b", command) and free:
                    yield f"{stage.name}: {command.strip()}"
                known = stage.name == "worker" and command.strip() in _COMPILER
                if re.search(r"\b(apt-get|apt|curl|wget)\b", command) and not known:
                    yield f"{stage.name}: {command.strip()}"


def images_are_lean(dockerfile: Dockerfile) -> Iterator[str]:
    """An image takes finished directories, and the proxy, from other stages: no sources, no pip."""
    for stage in (dockerfile.stages["runtime"], *_targets(dockerfile)):
        for copy in (*stage.all("COPY"), *stage.all("ADD")):
            finished = (
                copy.words[0].startswith("/opt/") or copy.words[0] == f"/{copy.flag('from')}" == f"/{_PROXY}"
            )
            if not copy.flag("from") or not finished:
                yield f"{stage.name}: COPY {copy.value}"
        if any("pip" in run.words for run in stage.all("RUN")):
            yield f"{stage.name} installs"


def code_comes_last(dockerfile: Dockerfile) -> Iterator[str]:
    """Neither packages nor model depend on the code, and the layer of the code is the last."""
    for name in dockerfile.stages:
        if (name.endswith("-packages") or name == "model") and "code" in dockerfile.inputs(name):
            yield f"{name} is made anew with every change of the code"
    for stage in _targets(dockerfile):
        sources = [copy.flag("from") for copy in stage.all("COPY")]
        if sources[-1:] != ["code"] or f"{stage.name}-packages" not in sources:
            yield f"{stage.name} copies {sources}"
    copies = [copy.words[0] for stage in dockerfile.stages.values() for copy in stage.all("COPY")]
    if copies.count(".") != 1:
        yield "the whole context is for the stage with the code alone"


def nothing_secret_is_built_in(dockerfile: Dockerfile) -> Iterator[str]:
    """No argument and no variable is a secret, because both stay in an image's history."""
    for stage in dockerfile.stages.values():
        for instruction in (*stage.all("ARG"), *stage.all("ENV")):
            yield from (f"{stage.name}: {name}" for name in instruction.pairs if _SECRET.search(name))


RULES: tuple[Callable[[Dockerfile], Iterator[str]], ...] = (
    base_is_pinned,
    nobody_is_root,
    health_is_checked,
    no_shell_is_process_1,
    packages_are_pinned,
    images_are_lean,
    code_comes_last,
    nothing_secret_is_built_in,
)


def _targets(dockerfile: Dockerfile) -> list[Stage]:
    return [dockerfile.stages[name] for name in _TARGETS]


def _first_word(instruction: Instruction) -> str:
    try:
        return instruction.command[0]
    except ValueError:
        return ""
