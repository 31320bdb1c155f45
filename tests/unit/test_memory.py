"""The sum of a worker's memory, and the limit that it must fit."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import SettingsError
from dropline.settings import Settings
from worker import memory
from worker.memory import plan_memory
from worker.memory_limit import MemoryLimit, find_limit

_GIB = 2**30
_MACHINE = MemoryLimit(64 * _GIB, "the memory of this machine")


def settings_of(
    children: int = 4, full: int = 1_500_000_000, download: int = 50_000_000, **engine: Any
) -> Settings:
    return Settings.model_validate(
        {
            "worker": {"concurrency": children},
            "images": {"child_memory_bytes": full},
            "events": {"max_size_bytes": download},
            "engine": engine,
        }
    )


@given(
    st.integers(1, 512),
    st.integers(1, 2**40),
    st.integers(1, 2**34),
    st.integers(1, 2**32),
    st.booleans(),
)
def test_43_a_plan_never_exceeds_the_limit(
    children: int, limit: int, full: int, download: int, stub: bool
) -> None:
    """The sum of an accepted plan is within the limit; its share is neither too small nor above the full limit."""
    try:
        plan = plan_memory(settings_of(children, full, download, stub=stub), MemoryLimit(limit, "a test"))
    except SettingsError:
        return
    assert plan.total_bytes <= limit
    assert min(full, memory.LEAST_SHARE_BYTES) <= plan.share_bytes <= full
    assert plan.has_turns == (plan.share_bytes < full)
    # All children decode, and one of them with the full limit.
    assert (
        plan.total_bytes
        - sum(part.total_bytes for part in plan.parts if "decoding" in part.name)
        + ((children - 1) * plan.share_bytes + full)
        <= limit
    )


@pytest.mark.parametrize(
    ("children", "gibibytes", "engine"),
    [(16, 16, {}), (24, 16, {}), (4, 8, {}), (4, 4, {"checkpoint": "demo"}), (4, 4, {"stub": True})],
    ids=[
        "Terraform's default",
        "Terraform's example",
        "a trial without a GPU",
        "a laptop",
        "a laptop with the stub",
    ],
)
def test_43_the_defaults_fit(children: int, gibibytes: int, engine: dict[str, Any]) -> None:
    """Each has room for a photograph per child beside the largest image."""
    plan = plan_memory(settings_of(children, **engine), MemoryLimit(gibibytes * _GIB, "a test"))
    assert plan.share_bytes >= 150_000_000
    assert plan.has_turns


def test_the_page_has_the_parts() -> None:
    """docs/operate.md has the numbers of the code."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "operate.md").read_text()
    for words, count in (
        ("the parent | ", memory.PARENT_BYTES),
        ("the engine, with the stub | ", memory.STUB_ENGINE_BYTES),
        ("the engine, with the demo model on a CPU | ", memory.DEMO_ENGINE_BYTES),
        ("the engine, with any other checkpoint | ", memory.ENGINE_BYTES),
        ("per child: the child | ", memory.CHILD_BYTES),
        ("per child and further engine: slot and page-locked memory | ", memory.CONNECTION_BYTES),
        ("per child: a decoder process | ", memory.DECODER_BYTES),
        ("the share | the rest, at least ", memory.LEAST_SHARE_BYTES),
    ):
        assert f"{words}{count // 1_000_000:,} |" in page


def test_each_engine_counts() -> None:
    """And each child's connection to it."""
    one, three = (
        plan_memory(settings_of(device=",".join(["cuda:0"] * engines)), _MACHINE).total_bytes for engines in (1, 3)
    )
    assert three - one == 2 * (memory.ENGINE_BYTES + 4 * memory.CONNECTION_BYTES)


def test_a_machine_with_room_for_all_has_no_turns() -> None:
    """Every image may have the full limit at any time."""
    plan = plan_memory(settings_of(), _MACHINE)
    assert (plan.share_bytes, plan.has_turns) == (1_500_000_000, False)


def test_43_a_refusal_has_each_part_the_sum_and_the_settings() -> None:
    """The text suffices to correct the settings; the engine's part can be given."""
    with pytest.raises(SettingsError) as caught:
        plan_memory(settings_of(64), MemoryLimit(16 * _GIB, "/sys/fs/cgroup/memory.max"))
    text = str(caught.value)
    for words in (
        "needs 30,729 MB, but has 17,180 MB (/sys/fs/cgroup/memory.max)",
        "the worker's parent: 150 MB",
        "64 × a download, 100 MB: 6,400 MB",
        "decoding one large image: 1,500 MB",
        "63 × decoding, 100 MB: 6,300 MB",
        "DROPLINE_WORKER__CONCURRENCY (64)",
        "DROPLINE_IMAGES__CHILD_MEMORY_BYTES (1500000000)",
    ):
        assert words in text
    with pytest.raises(SettingsError, match=r"the engine \(stub\): 9,000 MB"):
        plan_memory(settings_of(stub=True, memory_bytes=9_000_000_000), MemoryLimit(8 * _GIB, "a test"))


@pytest.mark.parametrize(
    ("groups", "files", "found"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "300", "memory.max": "400"}, 300),
        # The container's own view: the group of the process is the mount point.
        ("0::/\n", {"memory.max": "500\n"}, 500),
        # The path of the machine, where the mount point is the container's group.
        ("4:cpu,memory:/docker/x\n1:cpu:/\n0::/\n", {"memory/memory.limit_in_bytes": "600"}, 600),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 1000),
        ("0::/a\n", {"a/memory.max": "max"}, 1000),
        ("", {}, 1000),
    ],
    ids=["above", "own namespace", "version 1", "version 1 without a limit", "version 2 without a limit", "none"],
)
def test_the_lowest_limit_on_the_way_up_counts(
    tmp_path: Path, groups: str, files: dict[str, str], found: int
) -> None:
    """Both versions of control groups; without a limit, the memory of the machine; a setting only lowers it."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert find_limit(0, tmp_path, 1000).limit_bytes == found
    assert find_limit(2000, tmp_path, 1000).limit_bytes == found
    assert find_limit(200, tmp_path, 1000) == MemoryLimit(200, "DROPLINE_WORKER__MEMORY_BYTES")


def test_the_limit_of_this_machine_is_found() -> None:
    """A number that a machine can have, with its place."""
    found = find_limit(0)
    assert 2**26 < found.limit_bytes < 2**50
    assert found.source
