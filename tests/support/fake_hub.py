"""A model hub with a single repository and the answers needed for a download."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue


class Hub(ThreadingHTTPServer):
    """Answers each path with the bytes of `answers`, from the start of a requested range."""

    daemon_threads = True

    def __init__(self, commit: str, answers: Mapping[str, bytes]) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commit = commit
        self.answers = answers
        #: Method and path of every request, oldest first.
        self.requests: list[str] = []
        #: The first byte of every requested range, oldest first.
        self.ranges: SimpleQueue[int] = SimpleQueue()
        #: For each of the next downloads of weights the number of bytes before the connection breaks.
        self.breaks: list[int] = []

    @property
    def url(self) -> str:
        """The URL of the hub."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        body = self._answer()
        if self.server.breaks and ".safetensors" in self.path:
            body = body[: self.server.breaks.pop(0)]
            self.close_connection = True
        # A test may have killed the client.
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not print: `Hub.requests` is the log."""

    def _answer(self) -> bytes:
        self.server.requests.append(f"{self.command} {self.path}")
        whole = self.server.answers.get(self.path.partition("?")[0])
        body = whole or b""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(404 if whole is None else 206 if start else 200)
        if start:
            self.server.ranges.put(start)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.end_headers()
        return body[start:]


@contextmanager
def open_hub(name: str, commit: str, directory: Path) -> Iterator[Hub]:
    """Serve the files of a directory as a repository at a single commit."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    description = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]}
    tree = [{"type": "file", "path": file, "size": len(data), "oid": "0" * 40} for file, data in files.items()]
    answers = {f"/{name}/resolve/{commit}/{file}": data for file, data in files.items()} | {
        f"/api/models/{name}/revision/{commit}": json.dumps(description).encode(),
        f"/api/models/{name}/tree/{commit}": json.dumps(tree).encode(),
    }
    with Hub(commit, answers) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
