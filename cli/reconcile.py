"""`dropline reconcile`: a bucket against the table, both ways."""

from collections import Counter
from typing import Annotated, Any

import typer

from cli.console import print_json, print_line, print_note, print_table
from cli.options import Json
from dropline.log import configure_logging
from dropline.settings import load_settings
from operations.backfill_request import Source
from operations.comparing import Difference, Finding
from operations.reconcile import YOUNG_S, Reconciled, open_reconciler

#: Differences of each kind that are printed.
_EXAMPLES = 20
_WORDS = {
    Difference.GONE: "row of an object version that the bucket does not have",
    Difference.NONCURRENT: "row of a noncurrent version that is not superseded",
    Difference.NO_ROW: "object without a row",
    Difference.METADATA: "metadata that are not what the row says",
}


def reconcile(
    source: Annotated[
        str,
        typer.Argument(metavar="gs://BUCKET[/PREFIX or GLOB]", help="The objects, and the rows of such names."),
    ],
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help=(
                "Repair: end rows as the missing event would have, insert missing rows behind fresh drops, repeat "
                "write-backs without the model."
            ),
        ),
    ] = False,
    archived: Annotated[
        bool,
        typer.Option("--archived", help="Also objects without a row in NEARLINE, COLDLINE and ARCHIVE."),
    ] = False,
    min_age: Annotated[
        float,
        typer.Option(
            min=0,
            help="Younger objects without a row, in seconds, are left alone: their events may be on the way.",
        ),
    ] = YOUNG_S,
    json: Json = False,
) -> None:
    """Compare a bucket with the table, both ways; `--fix` repairs the differences.

    Reports rows of objects that are gone, objects without a row, and metadata that are not what the row says. Each
    difference is checked a second time first. With `--json` each difference is a line; the last line has the
    counts.
    """
    place = Source.parse(source)
    settings = load_settings()
    shown: Counter[Difference] = Counter()

    def report(finding: Finding, fixed: bool) -> None:
        shown[finding.difference] += 1
        if json:
            print_json(_document(finding, fixed=fixed), indent=None)
        elif shown[finding.difference] <= _EXAMPLES:
            print_line(f"{finding.difference:<10}  {finding.version.uri}{_details(finding)}")

    with open_reconciler(settings, print_note) as reconciler:
        configure_logging(settings.log.level, settings.log.format, "reconcile")
        counts = reconciler.run(place, fix=fix, archived=archived, young_s=min_age, on_finding=report)
    if json:
        print_json(_summary(counts, fix=fix), indent=None)
    else:
        _print_summary(counts, fix=fix)


def _details(finding: Finding) -> str:
    if finding.actual is None or finding.expected is None:
        return ""
    changes = (
        f"{key} {finding.actual[key]!r}, not {value!r}"
        for key, value in finding.expected.items()
        if finding.actual[key] != value
    )
    return "  " + "; ".join(changes)


def _document(finding: Finding, *, fixed: bool) -> dict[str, Any]:
    version = finding.version
    document: dict[str, Any] = {
        "difference": finding.difference.value,
        "uri": version.uri,
        "bucket": version.bucket,
        "object_name": version.name,
        "generation": version.generation,
        "fixed": fixed,
    }
    if finding.row is not None:
        document |= {"row": finding.row.id, "expected": finding.expected, "actual": finding.actual}
    return document


def _summary(counts: Reconciled, *, fix: bool) -> dict[str, Any]:
    return {
        "objects": counts.objects,
        "rows": counts.rows,
        "fix": fix,
        "found": {kind.value: counts.found[kind] for kind in Difference},
        "fixed": {kind.value: counts.fixed[kind] for kind in Difference},
    }


def _print_summary(counts: Reconciled, *, fix: bool) -> None:
    hidden = sum(max(0, number - _EXAMPLES) for number in counts.found.values())
    if hidden:
        print_note(f"{hidden} more differences are not shown; --json prints all")
    columns = ["difference", "found", *(["repaired"] if fix else []), ""]
    rows = []
    for kind in Difference:
        repaired = [counts.fixed[kind]] if fix else []
        rows.append([kind.value, counts.found[kind], *repaired, _WORDS[kind]])
    print_table(columns, rows)
    print_line(f"{counts.objects} objects and {counts.rows} rows were compared")
    if counts.found.total() and not fix:
        print_note("--fix repairs them")
