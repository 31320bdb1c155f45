"""The gallery's page with a long list: the plans of its queries, and scrolling in headless Chromium.

    python -m benchmarks.gallery_scroll [--rows 100000] [--parts 100] [--no-pictures]

Fills the table by SQL, and serves one small picture for every row, or none, as if all objects were gone.
Chromium has to be installed.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.figures import Figure, Spread, section, shown, shown_spread
from benchmarks.provenance import Provenance
from benchmarks.query_plans import PART, Plan, fill, page_queries, plans_of
from benchmarks.stack import open_directory
from db.session import Database
from dropline.contract import ObjectVersion
from dropline.errors import DroplineError
from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade
from tests.support.browser import served
from tests.support.page_rig import Objects, page_application
from tests.support.rows import database_of, open_connection

_TIMEOUT_MS = 300_000

# Scrolls by a step a frame, like a finger that does not stop, until so many parts were loaded.
_SCROLL = """
    async (parts) => {
      const found = { gaps: [], tasks: [], most: 0, cards: 0, parts: 0, pixels: 0 };
      new PerformanceObserver((list) => found.tasks.push(...list.getEntries().map((each) => each.duration)))
        .observe({ type: "longtask" });
      let last = performance.now();
      while (found.parts < parts) {
        const now = await new Promise(requestAnimationFrame);
        found.gaps.push(now - last);
        last = now;
        const before = scrollY;
        scrollBy({ top: 150, behavior: "instant" });
        found.pixels += scrollY - before;
        if (found.gaps.length % 30 === 0) {
          found.parts = document.querySelectorAll(".part").length;
          found.most = Math.max(found.most, document.getElementsByTagName("*").length);
          found.cards = Math.max(found.cards, document.querySelectorAll(".card").length);
        }
      }
      return found;
    }
"""


@dataclass(frozen=True)
class ScrollResult:
    """One long scroll through the list."""

    rows: int
    parts: int
    #: Most elements and cards of the document at one time.
    elements: int
    cards: int
    pixels: int
    frame_ms: Spread
    late_frames: int
    long_tasks_ms: list[float]

    title = "Scrolling through a long list"

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        longest = max(self.long_tasks_ms, default=0.0)
        return [
            Figure("rows of the table", f"{self.rows:,}"),
            Figure("cards scrolled past", f"{self.parts * PART:,}"),
            Figure("pixels scrolled", f"{self.pixels:,}"),
            Figure("most elements of the document at one time", f"{self.elements:,}"),
            Figure("most cards of the document at one time", f"{self.cards:,}"),
            Figure("from frame to frame", shown_spread(self.frame_ms, "ms")),
            Figure("frames, and those later than 50 ms", f"{self.frame_ms.count:,}, {self.late_frames}"),
            Figure(
                "tasks of the page's thread longer than 50 ms",
                f"{len(self.long_tasks_ms)}, up to {shown(longest)} ms",
            ),
        ]


@dataclass
class _SamePicture(Objects):
    """One picture for every object, or none for all."""

    picture: bytes | None = None
    #: Unused by this store.
    contents: dict[ObjectVersion, bytes | DroplineError] = field(default_factory=dict)

    def download(self, version: ObjectVersion) -> bytes:
        """The picture."""
        return self.picture if self.picture is not None else super().download(version)


def main(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the table.")] = 100_000,
    parts: Annotated[int, typer.Option(min=2, help="Parts of 60 cards to scroll past.")] = 100,
    pictures: Annotated[bool, typer.Option(help="Serve a picture for every row.")] = True,
) -> None:
    """Print the plans of the page's queries and the figures of a scroll."""
    arguments = ["--rows", str(rows), "--parts", str(parts), *([] if pictures else ["--no-pictures"])]
    machine = Provenance.gather("benchmarks.gallery_scroll", arguments, ("playwright", "sqlalchemy")).figures()
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        server = postgres.start(supervisor, directory / "postgres", free_ports(1)[0], "bench", "fsync=off")
        server.create_database("gallery")
        url = server.url_for("gallery")
        upgrade(url)
        with psycopg.connect(url, autocommit=True) as superuser:
            fill(superuser, rows)
        with open_connection(url) as connection:
            plans = {name: plans_of(connection, call) for name, call in page_queries(connection, rows)}
        typer.echo(
            "\n".join(
                section("Queries of the page", [*machine, *(_query_figure(*each) for each in plans.items())])
            )
        )
        objects = _SamePicture(picture=_a_picture() if pictures else None)
        with database_of(url) as database, _page(database, directory / "copies", objects) as page:
            result = _scroll(page, rows, parts)
    typer.echo("\n".join(section(result.title, result.figures())))


def _query_figure(name: str, plans: list[Plan]) -> Figure:
    indexes = dict.fromkeys(index for plan in plans for index in plan.indexes)
    scan = ["**the whole table**"] if any(plan.scans_captions for plan in plans) else []
    milliseconds = shown(sum(plan.execution_ms for plan in plans))
    return Figure(name, f"{milliseconds} ms: {', '.join([*scan, *indexes])}")


def _a_picture() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((400, 300)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@contextmanager
def _page(database: Database, directory: Path, objects: Objects) -> Iterator[Page]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise DroplineError("Chromium is not installed: apt-get install chromium")
    with (
        page_application(database, directory, objects) as application,
        served(application) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 800})
        page.set_default_timeout(_TIMEOUT_MS)
        page.goto("/")
        yield page
        browser.close()


def _scroll(page: Page, rows: int, parts: int) -> ScrollResult:
    found = page.evaluate(_SCROLL, parts)
    gaps = found["gaps"][1:]
    late = sum(gap > 50 for gap in gaps)
    spread = Spread.of(gaps)
    return ScrollResult(
        rows, found["parts"], found["most"], found["cards"], found["pixels"], spread, late, found["tasks"]
    )


if __name__ == "__main__":
    typer.run(main)
