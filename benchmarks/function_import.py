"""Import time of the function's code: most of a cold start."""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.checks import RunInvalidError
from benchmarks.figures import Figure, Spread, shown, shown_spread
from local_emulators.process import process_environment, python_path

_RUNS = 5
_PROBE = """
import json, sys, time
began = time.perf_counter()
import trigger_fn.main
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "modules": len(sys.modules), "torch": "torch" in sys.modules}))
"""
_BARE = "pass"


@dataclass(frozen=True)
class ImportResult:
    """The wall time of `import trigger_fn.main` in a fresh interpreter, with compiled byte code."""

    title = "Importing the function"
    runs: int
    import_ms: Spread
    #: From the start of the interpreter to its end, including the import.
    process_ms: Spread
    #: The same without the import.
    bare_process_ms: float
    #: Modules loaded after the import.
    modules: int
    torch_loaded: bool

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        return [
            Figure("runs", f"{self.runs}, after one that counts for nothing"),
            Figure("**`import trigger_fn.main`**", shown_spread(self.import_ms, "ms")),
            Figure("the whole process", shown_spread(self.process_ms, "ms")),
            Figure("an interpreter that imports nothing, p50", f"{shown(self.bare_process_ms)} ms"),
            Figure("modules loaded", f"{self.modules:,}"),
            Figure("torch among them", "yes" if self.torch_loaded else "no"),
        ]


def measure_import() -> ImportResult:
    """Import the function in several fresh interpreters, one after the other.

    Raises:
        RunInvalidError: the import fails.
    """
    _run(_PROBE)
    runs = [_run(_PROBE) for _ in range(_RUNS)]
    reports = [json.loads(output) for _, output in runs]
    return ImportResult(
        runs=_RUNS,
        import_ms=Spread.of(each["seconds"] * 1000 for each in reports),
        process_ms=Spread.of(seconds * 1000 for seconds, _ in runs),
        bare_process_ms=statistics.median(_run(_BARE)[0] * 1000 for _ in range(_RUNS)),
        modules=reports[0]["modules"],
        torch_loaded=any(each["torch"] for each in reports),
    )


def _run(code: str) -> tuple[float, str]:
    """Seconds and standard output of a fresh interpreter; standard error is inherited."""
    environment = process_environment(PYTHONPATH=python_path())
    began = time.perf_counter()
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    if finished.returncode != 0:
        raise RunInvalidError(f"importing ended with exit status {finished.returncode}; the reason stands above")
    return seconds, finished.stdout
