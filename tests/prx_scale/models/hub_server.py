"""The hub's protocol over folders of this machine, to see which files are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0" * 39 + "1"


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories, each a folder OWNER/NAME.

    Args:
        root: of the repositories.

    Yields:
        The endpoint, and the list of files that were downloaded so far.
    """
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            if path.startswith("api/models/"):
                self._listing("/".join(path.split("/")[2:4]), tree="/tree/" in path)
            else:
                self._file(path, body=True)

        def do_HEAD(self) -> None:
            self._file(self.path.partition("?")[0].strip("/"), body=False)

        def _listing(self, repo: str, *, tree: bool) -> None:
            folder = root / repo
            if not folder.is_dir():
                return self._reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            content = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in sizes]}
            entries = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            answer = json.dumps(entries if tree else content).encode()
            self._reply(200, answer, {"Content-Type": "application/json"})

        def _file(self, path: str, *, body: bool) -> None:
            owner, name, _, _, *rest = path.split("/")
            file = root / owner / name / "/".join(rest)
            if not file.is_file():
                return self._reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            content = file.read_bytes()
            if body:
                fetched.append("/".join(rest))
            etag = hashlib.sha256(content).hexdigest()
            self._reply(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

        def _reply(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
