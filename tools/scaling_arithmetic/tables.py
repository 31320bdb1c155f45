"""The tables of the scaling page. Pure."""

from collections.abc import Callable, Sequence

from tools.generated_tables import markdown_table
from tools.inputs import Inputs
from tools.scaling_arithmetic.model import Load, load, retry_window_s, waiting_images
from tools.scaling_arithmetic.parts import Part, full_at, parts_as_deployed, parts_at_their_largest

RATES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
#: Images per second of an instance with its GPU. None of them was measured.
GPU_RATES = (5.0, 20.0, 50.0)


def all_tables(
    inputs: Inputs, rates: Sequence[float] = RATES, gpu_rates: Sequence[float] = GPU_RATES
) -> dict[str, str]:
    """Every table of the page by its name, in Markdown."""
    gpu_rate = sorted(gpu_rates)[len(gpu_rates) // 2]
    return {
        "load": load_table(inputs, rates, gpu_rate),
        "workers": workers_table(inputs, rates, gpu_rates),
        "as-deployed": parts_table(parts_as_deployed(inputs, gpu_rate)),
        "at-their-largest": parts_table(parts_at_their_largest(inputs, gpu_rate)),
        "full": full_table(inputs, rates, gpu_rate),
        "outage": outage_table(inputs, rates),
        "limits": limits_table(inputs),
    }


_LINES: dict[str, Callable[[Load], str]] = {
    "function, CPUs busy": lambda load: _count(load.function_cores),
    "function, instances": lambda load: f"{load.function_instances:,}",
    "worker, CPUs busy (photographs)": lambda load: _count(load.worker_cores),
    "worker, instances with a GPU": lambda load: f"{load.worker_instances:,}",
    "Redis, commands/s": lambda load: _count(load.redis_commands_per_s),
    "Redis, CPUs busy (it has one)": lambda load: _count(load.redis_cores),
    "Postgres, transactions/s": lambda load: _count(load.transactions_per_s),
    "Postgres, CPUs busy": lambda load: _count(load.postgres_cores),
    "Postgres, connections at most": lambda load: f"{load.connections:,}",
    "Postgres, write-ahead log": lambda load: f"{_bytes(load.wal_bytes_per_s)}/s",
    "rows a month": lambda load: f"{_count(load.rows_a_month / 1e6)} million",
    "table and indexes, growth a month": lambda load: _bytes(load.table_bytes_a_month),
    "months until the largest disk is full": lambda load: _count(load.months_on_one_disk),
    "Pub/Sub, published and pushed": lambda load: f"{_bytes(load.event_bytes_per_s)}/s",
    "bucket, writes/s": lambda load: _count(load.bucket_writes_per_s),
    "bucket, reads/s": lambda load: _count(load.bucket_reads_per_s),
}


def load_table(inputs: Inputs, rates: Sequence[float], gpu_rate: float) -> str:
    """What each rate asks of each part."""
    loads = [load(inputs, rate, gpu_rate) for rate in rates]
    rows = [[name, *(shown(each) for each in loads)] for name, shown in _LINES.items()]
    return markdown_table(["", *(f"{rate:,g}/s:" for rate in rates)], rows)


def workers_table(inputs: Inputs, rates: Sequence[float], gpu_rates: Sequence[float]) -> str:
    """Instances with a GPU by the rate that one of them reaches."""
    rows = [
        [
            f"{gpu_rate:g} images/s per GPU",
            *(f"{load(inputs, rate, gpu_rate).worker_instances:,}" for rate in rates),
        ]
        for gpu_rate in gpu_rates
    ]
    return markdown_table(["", *(f"{rate:,g}/s:" for rate in rates)], rows)


def parts_table(parts: Sequence[Part]) -> str:
    """Capacities, the smallest first."""
    rows = [[part.name, _count(part.images_per_s), part.basis.value, part.why] for part in parts]
    return markdown_table(["part", "images/s:", "from", "why"], rows)


def full_table(inputs: Inputs, rates: Sequence[float], gpu_rate: float) -> str:
    """Which parts are full at each rate, as deployed and when everything was enlarged that can be."""
    rows = []
    for rate in rates:
        deployed = full_at(parts_as_deployed(inputs, gpu_rate), rate)
        largest = full_at(parts_at_their_largest(inputs, gpu_rate), rate)
        rows.append([f"{rate:,g}/s", _names(deployed), _names(largest)])
    return markdown_table(["", "full with Terraform's defaults, the first first", "full though enlarged"], rows)


def outage_table(inputs: Inputs, rates: Sequence[float]) -> str:
    """How long an outage of all workers fits into Redis, and what follows."""
    full = [_duration(load(inputs, rate, 1).queue_full_after_s) for rate in rates]
    after = [_duration(load(inputs, rate, 1).queue_full_after_s + retry_window_s(inputs)) for rate in rates]
    rows = [
        [f"Redis is full ({_count(waiting_images(inputs))} waiting images)", *full],
        ["the first event becomes a dead letter, at the earliest", *after],
    ]
    return markdown_table(["after", *(f"{rate:,g}/s:" for rate in rates)], rows)


def limits_table(inputs: Inputs) -> str:
    """Google's quotas and limits, with their pages."""
    rows = [
        [
            name.replace("_", " "),
            f"{entry.value:,g} {entry.unit}",
            entry.what,
            entry.source,
            entry.read.isoformat(),
        ]
        for name, entry in inputs.limits
    ]
    return markdown_table(["limit", "value", "of what", "where it was read", "when"], rows)


def _names(parts: Sequence[Part]) -> str:
    return ", ".join(part.name for part in parts) or "nothing"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{_count(value)} TB"


def _duration(seconds: float) -> str:
    if seconds < 120 * 60:
        return f"{seconds / 60:.3g} minutes"
    return f"{seconds / 3600:.3g} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.3g} days"
