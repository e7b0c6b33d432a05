"""A web server in the test's own process: serves a folder, gives parts or not, breaks off, refuses, notes requests."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Habits:
    """How the server behaves; may be changed while it runs.

    Attributes:
        ranges: whether it gives parts of files.
        break_after: bytes after which it closes each of the next connections, one entry a connection.
        refusals: status codes of its next answers.
        asked: (path, value of the Range header) of every request.
    """

    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Habits]]:
    """`with serving(folder) as (url, habits)`."""
    habits = Habits()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            habits.asked.append((self.path, wanted))
            path = folder / self.path.lstrip("/")
            if habits.refusals:
                self.send_error(habits.refusals.pop(0))
            elif not path.is_file():
                self.send_error(404)
            else:
                self._send(path.read_bytes(), wanted)

        def _send(self, content: bytes, wanted: str | None) -> None:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and habits.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            limit = habits.break_after.pop(0) if habits.break_after else None
            self.wfile.write(content[start:][:limit])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", habits
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
