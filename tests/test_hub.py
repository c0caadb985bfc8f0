"""Addresses: hf:// against a small server of our own, kaggle:// against a stand-in.

The server mimics the three endpoints of Hugging Face that huggingface_hub asks. It and
the client run in one child process, as HF_ENDPOINT is read at import. Kaggle has no
endpoint to set: there `kagglehub.model_download` itself is replaced, so that our use of
it is tested, and kagglehub is not.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

FIRST, SECOND = 40 * "1", 40 * "2"
REVISIONS = {"v1": FIRST, "main": SECOND, FIRST: FIRST, SECOND: SECOND}


class Hub(BaseHTTPRequestHandler):
    """A hub of one repository, user/name; `commits` holds a folder for each commit."""

    commits, log = {}, []

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        self.log.append(path)
        api, _, rest = path.partition("api/models/user/name")
        if path.startswith("user/name/resolve/"):
            return self.file(*path.removeprefix("user/name/resolve/").split("/", 1))
        if api or not path.startswith("api/models/user/name"):
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        kind, revision = rest.strip("/").split("/") if rest else ("revision", "main")
        if revision not in REVISIONS:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        commit = REVISIONS[revision]
        folder = self.commits[commit]
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        names = [f.relative_to(folder).as_posix() for f in files]
        if kind == "tree":
            reply = [
                {
                    "type": "file",
                    "path": name,
                    "size": f.stat().st_size,
                    "oid": commit[:20] + f.name,
                }
                for name, f in zip(names, files)
            ]
        else:
            siblings = [{"rfilename": name} for name in names]
            reply = {"id": "user/name", "sha": commit, "siblings": siblings}
        return self.answer(200, json.dumps(reply).encode())

    do_HEAD = do_GET

    def file(self, commit, name):
        data = (self.commits[commit] / name).read_bytes()
        etag = f'"{commit[:20]}{Path(name).name}"'
        self.answer(200, data, {"X-Repo-Commit": commit, "ETag": etag})

    def answer(self, status, data, headers=()):
        self.send_response(status)
        for key, value in {**dict(headers), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def client(folder):
    """Ask for addresses with the server up and then down; print what came, as JSON."""
    Hub.commits = {FIRST: folder / "first", SECOND: folder / "second"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    import zoo
    from zoo import _hub, _registry

    report = {}

    def ask(title, address):
        said, entry = io.StringIO(), {}
        with contextlib.redirect_stderr(said):
            try:
                path = _hub.fetch(address)
                card = _registry.read(path)
                _registry.check_files(path, card)
                files = [f for f in path.rglob("*") if f.is_file()]
                names = sorted(f.relative_to(path).as_posix() for f in files)
                entry = {"path": str(path), "summary": card["summary"], "names": names}
            except zoo.PresetError as error:
                entry = {"error": str(error)}
        lines = [line for line in said.getvalue().split("\n") if "hf://" in line]
        report[title] = entry | {"said": "\n".join(lines)}

    ask("newest", "hf://user/name")
    ask("commit", f"hf://user/name@{FIRST}")
    ask("tag", "hf://user/name@v1")
    ask("no repository", "hf://user/nothing")
    ask("no revision", "hf://user/name@v9")
    report["asked"] = list(Hub.log)
    server.shutdown()
    server.server_close()
    ask("newest, offline", "hf://user/name")
    ask("commit, offline", f"hf://user/name@{FIRST}")
    ask("tag, offline", "hf://user/name@v1")
    ask("not cached, offline", "hf://user/other")
    model = zoo.load(f"hf://user/name@{FIRST}")
    report["weights"] = [float(abs(w).sum()) for w in model.get_weights()]
    break_cache(Path(os.environ["HF_HOME"]))
    ask("altered", f"hf://user/name@{FIRST}")
    ask("leads out", "hf://user/name")
    print(json.dumps(report))


def break_cache(home):
    """Change the weights of one commit; lead a link of the other out of the cache."""
    snapshots = home / "hub" / "models--user--name" / "snapshots"
    weights = (snapshots / FIRST / "model.weights.h5").resolve()
    data = bytearray(weights.read_bytes())
    data[-9] ^= 1
    weights.write_bytes(data)
    readme = snapshots / SECOND / "README.md"
    readme.unlink()
    readme.symlink_to(home.parent / "secret")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two presets, as two commits of one repository."""
    import keras

    import zoo

    folder = tmp_path_factory.mktemp("hub")
    for number, name in enumerate(("first", "second")):
        keras.utils.set_random_seed(number)
        model = zoo.VAE(image_shape=(4, 4, 1), latent=2, hidden=(3,))
        model.save_preset(folder / name, summary=name)
        (folder / name / "samples.png").write_bytes(b"a picture")
        (folder / name / "setup.py").write_text("raise SystemExit('never fetched')")
        assets = folder / name / "assets" / "tokenizer"
        assets.mkdir(parents=True)
        (assets / "merges.txt").write_text(name)
    (folder / "secret").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def report(made):
    pytest.importorskip("huggingface_hub")
    offline = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    removed = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE")
    kept = {k: v for k, v in os.environ.items() if k not in removed}
    kept = {k: v for k, v in kept.items() if not k.lower().endswith("_proxy")}
    home = {"HF_HOME": str(made / "home")}
    child = subprocess.run(
        [sys.executable, __file__, str(made)],
        env=kept | offline | home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


NAMES = ["README.md", "assets/tokenizer/merges.txt", "config.json"]
NAMES += ["model.weights.h5", "samples.png"]


def test_newest_is_said_with_how_to_pin_it(report):
    entry = report["newest"]
    assert entry["summary"] == "second"
    assert entry["names"] == NAMES
    assert Path(entry["path"]).name == "name"
    assert entry["said"] == (
        f"hf://user/name: commit {SECOND} (to pin it: hf://user/name@{SECOND})."
    )


@pytest.mark.parametrize("how", ["commit", "tag"])
def test_pinned(report, how):
    assert report[how]["summary"] == "first"
    assert report[how]["names"] == NAMES
    assert f"commit {FIRST}" in report[how]["said"]
    assert ("to pin it" in report[how]["said"]) == (how == "tag")


def test_only_the_files_of_a_preset_are_fetched(report):
    asked = [path.partition("/resolve/")[2] for path in report["asked"]]
    fetched = {path.partition("/")[2] for path in asked if path}
    assert fetched == set(NAMES)


@pytest.mark.parametrize("how", ["newest", "commit", "tag"])
def test_from_the_cache_without_a_network(report, how):
    entry = report[f"{how}, offline"]
    assert entry["path"] == report[how]["path"]
    assert "no network; from the cache, commit" in entry["said"]


def test_cached_weights_are_those_saved(report, made):
    import zoo

    saved = zoo.load(made / "first").get_weights()
    assert report["weights"] == pytest.approx([float(abs(w).sum()) for w in saved])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no repository", "Hugging Face has no hf://user/nothing, or it is private"),
        ("no revision", "hf://user/name has no revision 'v9'"),
        ("not cached, offline", "hf://user/other is not wholly in the cache and could"),
        ("not cached, offline", "Fetch it once with a network"),
        ("altered", "model.weights.h5 is not the file that config.json lists"),
        ("leads out", "README.md leads out of the cache of its repository"),
    ],
)
def test_refused(report, how, reason):
    assert reason in report[how]["error"]


@pytest.mark.parametrize(
    "address",
    ["hf://name", "hf://user/name/more", "hf://user/../x", "hf://user/name@", "hf://"]
    + ["hf://user/name@../../x", "hf://user/name\n", "kaggle://owner/model/keras"]
    + ["kaggle://owner/model/keras/small/newest", "kaggle://o/m/k/v/0"],
)
def test_malformed(address):
    import zoo

    form = "hf://user/name@revision" if address[0] == "h" else "/framework/variation"
    with pytest.raises(zoo.PresetError, match="is no address of a preset") as refusal:
        zoo.load(address)
    assert form in str(refusal.value)


@pytest.mark.parametrize("address", ["hf://user/name", "kaggle://o/m/keras/small"])
def test_without_the_packages(monkeypatch, address):
    import zoo

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match=r'pip install "generative-zoo\[hub\]"'):
        zoo.load(address)


@pytest.fixture
def kaggle(made, monkeypatch):
    """Stand in for kagglehub: version 3, the newest, and 2 are there."""
    kagglehub = pytest.importorskip("kagglehub")
    asked = []

    def model_download(handle):
        asked.append(handle)
        version = handle.removeprefix("owner/model/keras/small").strip("/") or "3"
        if version not in "23":
            raise ConnectionError("no route\nto host")
        (made / version).exists() or (made / version).symlink_to(made / "first")
        return str(made / version)

    monkeypatch.setattr(kagglehub, "model_download", model_download)
    return asked


@pytest.mark.parametrize("version", ["", "/2"])
def test_kaggle(kaggle, capsys, version):
    import zoo

    address = f"kaggle://owner/model/keras/small{version}"
    assert zoo.load(address).latent == 2
    assert kaggle == [f"owner/model/keras/small{version}"]
    number = version.strip("/") or "3"
    pin = "" if version else " (to pin it: kaggle://owner/model/keras/small/3)"
    assert capsys.readouterr().err.endswith(f"{address}: version {number}{pin}.\n")


def test_kaggle_out_of_reach(kaggle):
    import zoo

    reason = (
        r"/9 could not be fetched \(ConnectionError: no route\)\. Without a network"
    )
    with pytest.raises(zoo.PresetError, match=reason):
        zoo.load("kaggle://owner/model/keras/small/9")


if __name__ == "__main__":
    client(Path(sys.argv[1]))
