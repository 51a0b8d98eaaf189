"""A server on this machine that serves files in whole or from a byte on, well or badly."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the server's `files`; its `cut`, `ranges` and `style` say how badly."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and self.server.ranges else 0
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
        elif self.server.style == "gibberish":
            self.wfile.write(b"gibberish\r\n\r\n")
        elif start >= len(content):
            self.send_error(416)
        else:
            self.send(content, start)

    def send(self, content, start):
        body = content[start : self.server.cut]
        if self.server.style == "chunked":
            self.protocol_version = "HTTP/1.1"
        self.send_response(206 if start else 200)
        if self.server.style == "sized":
            self.send_header("Content-Length", str(len(content) - start))
        elif self.server.style == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            # A chunk that announces all and holds less where the transfer is cut.
            body = (
                f"{len(content) - start:x}\r\n".encode()
                + body
                + (b"" if self.server.cut else b"\r\n0\r\n\r\n")
            )
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
        self.server.cut = None

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def server(files: dict[str, bytes]) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of files by path, such as /file; its `address` is http://HOST:PORT."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        started.files = files
        started.cut, started.ranges, started.style, started.asked = None, True, "sized", []
        started.address = f"http://127.0.0.1:{started.server_port}"
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield started
        finally:  # Otherwise a test that fails never ends.
            started.shutdown()
            thread.join()
