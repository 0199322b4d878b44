"""Downloads are whole, checked, continued and explained; the server is a local one."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ska_vct.checkpoint.fetch import zoo
from ska_vct.checkpoint.fetch.download import DownloadError, cache_folder, download
from ska_vct.checkpoint.fetch.resolve import resolve

DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves DATA; remembers what was asked for.

    Attributes:
        cut: bytes after which each answer ends early; None for never.
        ranges: whether it can continue.
        linked: checksum that is sent as Hugging Face sends it, with a redirect.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut, self.ranges, self.linked, self.etag, self.asked = None, True, "", '"v1"', []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if "missing" in self.path:
            return self.send_error(404)
        if "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("Location", f"{server.url}/blob")
            self.send_header("X-Linked-ETag", f'"{server.linked}"')
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        body = DATA[start:]
        self.wfile.write(body[: server.cut] if server.cut else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKA_VCT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_the_cache_is_where_the_environment_says_when_asked(monkeypatch, cache):
    assert cache_folder() == cache
    monkeypatch.delenv("SKA_VCT_CACHE")
    assert cache_folder() == Path("~/.cache/ska_vct").expanduser()


def test_a_file_is_fetched_once_with_a_progress_bar(server, cache, capfd):
    path = resolve(f"{server.url}/a/w.pth#sha256={SHA[:12]}")
    assert path.read_bytes() == DATA and path.is_relative_to(cache)
    assert "w.pth: 100%" in capfd.readouterr().err
    assert resolve(f"{server.url}/a/w.pth") == path
    assert len(server.asked) == 1 and files(cache) == {"w.pth"}


def test_a_broken_download_continues_where_it_stopped(server, cache):
    server.cut = 300_000
    path = resolve(f"{server.url}/w.pth#sha256={SHA}")
    assert path.read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_it_continues_in_the_next_run_too(server, cache):
    server.cut, server.ranges = 1, True
    with pytest.raises(DownloadError, match="ended after 4 of 1024000 bytes; run again to continue"):
        resolve(f"{server.url}/w.pth")
    assert files(cache) == {"w.pth.part", "w.pth.part.etag"}
    server.cut = None
    assert resolve(f"{server.url}/w.pth").read_bytes() == DATA
    assert server.asked[-1][1] == "bytes=4-" and files(cache) == {"w.pth"}


@pytest.mark.parametrize("change", ["etag", "ranges"])
def test_a_file_that_changed_or_a_server_that_cannot_continue_starts_anew(server, change):
    server.cut = 10
    with pytest.raises(DownloadError):
        resolve(f"{server.url}/w.pth")
    server.cut = None
    if change == "etag":
        server.etag = '"v2"'
    else:
        server.ranges = False
    assert resolve(f"{server.url}/w.pth").read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(server, cache):
    with pytest.raises(DownloadError, match="SHA-256"):
        resolve(f"{server.url}/w.pth#sha256={'0' * 64}")
    assert not {name for name in files(cache) if "etag" not in name}


def test_hugging_face_addresses_and_the_checksum_that_comes_with_them(server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.linked = SHA
    path = resolve("hf://org/repo@abc/folder/m.safetensors")
    assert path == cache / "hf" / "org" / "repo" / "abc" / "folder" / "m.safetensors"
    assert server.asked[0][0] == "/org/repo/resolve/abc/folder/m.safetensors"
    server.linked = "1" * 64
    with pytest.raises(DownloadError, match="SHA-256"):
        resolve("hf://org/repo/other.safetensors")
    assert "resolve/main/other" in server.asked[2][0]


@pytest.mark.parametrize("name", ["pvt_v2_b5.in1k", "timm://pvt_v2_b5.in1k", "pvt_v2_b5"])
def test_timm_names(server, monkeypatch, name):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.linked = SHA
    assert resolve(name).read_bytes() == DATA
    assert server.asked[0][0] == "/timm/pvt_v2_b5.in1k/resolve/main/model.safetensors"


def test_zoo_names_and_files_put_there_by_hand(server, cache, monkeypatch):
    entry = zoo.Weights(f"{server.url}/x/w-12345678.pth", "x", "MODEL.WEIGHTS", "here", sha256=SHA[:8])
    monkeypatch.setitem(zoo.ZOO, "test", entry)
    assert resolve("ska_vct://test") == cache / "w-12345678.pth"
    by_hand = cache / zoo.ZOO["vct_s4"].file
    by_hand.write_bytes(b"mine")
    assert resolve("ska_vct://vct_s4") == by_hand
    assert len(server.asked) == 1


def test_offline_says_what_to_fetch_and_where_to_put_it(server, cache):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError) as info:
        resolve(f"{server.url}/w.pth", key="MODEL.AUDIO.WEIGHTS")
    message = str(info.value)
    place = cache / "url" / f"127.0.0.1_{server.server_port}" / "w.pth"
    assert f"{server.url}/w.pth" in message and f"put it at {place}" in message
    assert "MODEL.AUDIO.WEIGHTS" in message and "\n" not in message


def test_a_missing_file_is_not_asked_for_again(server):
    with pytest.raises(DownloadError, match="404"):
        resolve(f"{server.url}/missing.pth")
    assert len(server.asked) == 1


def test_processes_that_want_the_same_file_fetch_it_once(server, cache):
    target = cache / "w.pth"
    threads = [threading.Thread(target=download, args=(f"{server.url}/w.pth", target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA and len(server.asked) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.pth", "there is no file 'nowhere.pth'"),
        ("resnet_of_mine", "there is no file"),
        ("ska_vct://vct_s5", "'ska_vct://vct_s5' is unknown; choose one of vct_s4"),
        ("detectron2://ImageNet", "unknown scheme"),
        ("hf://org/repo", "hf://ORG/REPO/FILE"),
        ("hf://org/repo/../../etc/passwd", "does not name a file"),
        ("https://host/", "does not name a file"),
        ("https://host/%2e%2e/x", "does not name a file"),
        ("https://host/x#sha256=xyz", "not a SHA-256"),
        ("timm://resnet_of_mine", "no pretrained weights"),
    ],
)
def test_wrong_sources_give_one_sentence(source, words):
    with pytest.raises((ValueError, FileNotFoundError)) as info:
        resolve(source, key="MODEL.WEIGHTS")
    assert words in str(info.value) and "MODEL.WEIGHTS" in str(info.value)


def test_the_zoo_is_whole():
    assert {"vct_s4", "vct_ms3", "vct_avss", "swin_b_384_22k", "pvt_v2_b5", "vggish", "raft_large"} <= set(zoo.ZOO)
    entries = zoo.ZOO.values()
    assert len({entry.file for entry in entries}) == len(entries)
    assert all(entry.url.startswith("https://") and "/blob/" not in entry.url for entry in entries)
    documented = (Path(__file__).resolve().parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
    assert all(f"`ska_vct://{name}`" in documented and entry.url in documented for name, entry in zoo.ZOO.items())
