"""Fetching from a real server: whole, broken off and resumed, and never with a wrong checksum."""

import hashlib
import http.server
import re
import threading

import numpy as np
import pytest

from histojax import download
from histojax.errors import InputError

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's `cut` and `ranges` say how badly."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and self.server.ranges else 0
        if self.path != "/file":
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.cut])
        self.server.cut = None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.cut, running.ranges, running.asked = None, True, []
        running.url = f"http://127.0.0.1:{running.server_port}/file"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_whole(server, tmp_path):
    download.fetch(server.url, tmp_path / "deep" / "file.h5", MD5)
    assert (tmp_path / "deep" / "file.h5").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.h5"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_gone_on_with(server, tmp_path, ranges):
    server.cut, server.ranges = 1_200_000, ranges
    with pytest.raises(InputError, match="1,200,000 bytes are kept"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert not (tmp_path / "file.h5").exists()
    download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert server.asked == [None, "bytes=1200000-"]
    assert (tmp_path / "file.h5").read_bytes() == CONTENT


def test_a_partial_file_that_is_complete_already_is_used(server, tmp_path):
    (tmp_path / "file.h5.part").write_bytes(CONTENT)
    download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert (tmp_path / "file.h5").read_bytes() == CONTENT


def test_a_wrong_checksum_is_never_used(server, tmp_path):
    (tmp_path / "file.h5.part").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match=f"expected {MD5}"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_named(server, tmp_path):
    with pytest.raises(InputError, match="404"):
        download.fetch(server.url + "s", tmp_path / "file.h5", MD5)
    with pytest.raises(InputError, match="--weights_dir"):
        download.fetch("http://127.0.0.1:9/file", tmp_path / "file.h5", MD5)
