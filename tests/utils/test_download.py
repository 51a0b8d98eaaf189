"""Downloads from a real server: whole, broken off and resumed, never with a wrong checksum."""

import gc
import hashlib
import socket
import types

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils import download, files
from tests import serving

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving.server({"/file": CONTENT}) as server:
        server.url = f"{server.address}/file"
        yield server


@pytest.fixture(autouse=True)
def what_is_left_open_shows():
    gc.freeze()  # What was there before needs no search.
    yield
    gc.collect()


@pytest.mark.parametrize("style", ["sized", "chunked", "unsized"])
def test_a_file_is_fetched_whole(style, server, tmp_path):
    server.style = style
    download.fetch(server.url, tmp_path / "deep" / "file.h5", MD5)
    assert (tmp_path / "deep" / "file.h5").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.h5"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_resumed(server, tmp_path, ranges):
    server.cut, server.ranges = 1_200_000, ranges
    with pytest.raises(InputError, match="1,200,000 bytes are kept"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert (tmp_path / "file.h5.part").read_bytes() == CONTENT[:1_200_000]
    assert not (tmp_path / "file.h5").exists()
    download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert server.asked == [None, "bytes=1200000-"]
    assert (tmp_path / "file.h5").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.h5"]


def test_a_transfer_may_break_more_than_once(server, tmp_path):
    for cut in (1_000, 2_500_000):
        server.cut = cut
        with pytest.raises(InputError, match=f"{cut:,} bytes are kept"):
            download.fetch(server.url, tmp_path / "file.h5", MD5)
    download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert server.asked == [None, "bytes=1000-", "bytes=2500000-"]
    assert (tmp_path / "file.h5").read_bytes() == CONTENT


def test_a_transfer_cut_by_a_server_that_never_named_its_length_is_refused(server, tmp_path):
    server.style, server.cut = "unsized", 1_200_000
    with pytest.raises(InputError, match=f"expected {MD5}"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("style", "cut"), [("chunked", 1_200_000), ("gibberish", None)])
def test_a_server_that_breaks_http_is_reported_as_such(style, cut, server, tmp_path):
    server.style, server.cut = style, cut
    with pytest.raises(InputError, match="failed"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)


def test_a_partial_file_that_is_complete_already_is_used(server, tmp_path):
    (tmp_path / "file.h5.part").write_bytes(CONTENT)
    download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert server.asked == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "file.h5").read_bytes() == CONTENT
    assert not (tmp_path / "file.h5.part").exists()


@pytest.mark.parametrize("part", [None, b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"x"])
def test_a_wrong_checksum_leaves_nothing(part, server, tmp_path):
    wanted = MD5
    if part is None:
        wanted = "0" * 32
    else:
        (tmp_path / "file.h5.part").write_bytes(part)
    with pytest.raises(InputError, match=f"expected {wanted}.* Run again, or put file.h5"):
        download.fetch(server.url, tmp_path / "file.h5", wanted)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_not_there_is_named_and_what_was_kept_stays(server, tmp_path):
    (tmp_path / "file.h5.part").write_bytes(CONTENT[:1000])
    with pytest.raises(InputError, match=f"{server.url}s failed: .*404.*1,000 bytes are kept"):
        download.fetch(server.url + "s", tmp_path / "file.h5", MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["file.h5.part"]


def test_a_server_that_has_nothing_to_send_though_nothing_was_kept_is_told(server, tmp_path):
    server.files["/file"] = b""  # Answered by 416, as a range beyond the end is.
    with pytest.raises(InputError, match=f"{server.url} failed: .*416.*[.] Run again"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)


def test_a_server_that_does_not_answer_is_named_with_a_way_round_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    with pytest.raises(InputError, match=f"{url} .*refused.*[.] Run again, or .*--weights_dir"):
        download.fetch(url, tmp_path / "file.h5", MD5)
    assert list(tmp_path.iterdir()) == []


BY_HAND = "put {file} into {folder} yourself"


def test_a_file_that_is_there_whole_is_not_fetched_and_a_damaged_one_is_told(
    server, tmp_path, notices
):
    path = tmp_path / "file.zip"
    path.write_bytes(CONTENT)
    assert not download.fetch_unless_there(server.url, path, MD5, BY_HAND)
    assert (server.asked, notices) == ([], [])
    path.write_bytes(CONTENT[:-1] + b"x")
    server.cut = 1_000
    with pytest.raises(InputError, match=f"run again to resume, or put file.zip into {tmp_path} y"):
        download.fetch_unless_there(server.url, path, MD5, BY_HAND)
    assert path.read_bytes() == CONTENT[:-1] + b"x"
    assert download.fetch_unless_there(server.url, path, MD5, BY_HAND)
    assert path.read_bytes() == CONTENT
    assert f"{path} is damaged (md5 " in notices[0]
    assert f"expected {MD5}): it is downloaded again" in notices[0]


def test_a_full_disk_is_told_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=2**20)
    )
    with pytest.raises(InputError, match="needs 3,000,000 bytes, .* has 1,048,576 free: make room"):
        download.fetch(server.url, tmp_path / "file.h5", MD5)
    assert list(tmp_path.iterdir()) == []
