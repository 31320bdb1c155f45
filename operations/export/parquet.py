"""Rows as a Parquet file, by pyarrow: the extra `export`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from db.reads import CaptionRecord
from dropline.errors import ClientError
from operations.export.lines import COLUMNS, document

_WHOLE = ("generation", "size_bytes", "width", "height", "copied_from")
_TIMES = ("event_time", "queued_at", "captioned_at", "metadata_written_at", "updated_at", "edited_at")


def pyarrow() -> Any:
    """The module `pyarrow`, with `pyarrow.parquet`.

    Raises:
        ClientError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ClientError("Parquet needs pyarrow: pip install 'dropline[export]'") from error
    return pa


class ParquetFile:
    """A Parquet file written from beginning to end: a row group for each call of `add`."""

    def __init__(self, out: BinaryIO | Path) -> None:
        arrow = pyarrow()
        self._arrow = arrow
        self._schema = _schema(arrow)
        self._writer = arrow.parquet.ParquetWriter(out, self._schema, compression="zstd")

    def add(self, rows: Sequence[CaptionRecord]) -> None:
        """Write a row group."""
        if rows:
            self._writer.write_table(_table(self._arrow, self._schema, rows))

    def add_file(self, path: Path) -> None:
        """Copy the row groups of another file, one at a time."""
        with self._arrow.parquet.ParquetFile(path) as source:
            for number in range(source.num_row_groups):
                self._writer.write_table(source.read_row_group(number))

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()


def _schema(arrow: Any) -> Any:
    types = {name: arrow.int64() for name in _WHOLE} | {name: arrow.timestamp("us", "UTC") for name in _TIMES}
    return arrow.schema([(name, types.get(name, arrow.string())) for name in ("uri", *COLUMNS)])


def _table(arrow: Any, schema: Any, rows: Sequence[CaptionRecord]) -> Any:
    documents = [_flat(document(row)) for row in rows]
    return arrow.Table.from_pylist(documents, schema=schema)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """`result` as JSON, and the status as plain text."""
    result = values["result"]
    text = None if result is None else json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    return values | {"result": text, "status": str(values["status"])}
