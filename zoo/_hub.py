"""Presets from Hugging Face and Kaggle, as folders of regular files.

Both end in the same checked loader: what comes back here is not believed yet.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from zoo._card import ADAPTER, WEIGHTS
from zoo._registry import PresetError

FILES = ["config.json", WEIGHTS, *ADAPTER, "README.md", "*.png"]
FILES += ["tokenizer.json", "assets/tokenizer/*"]  # Of keras-hub.
FORMS = {
    "hf": "hf://user/name or hf://user/name@revision",
    "kaggle": "kaggle://owner/model/framework/variation, with /version if wanted",
}
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HF = re.compile(rf"hf://({_WORD}/{_WORD})(?:@({_WORD}(?:/{_WORD})*))?")
_KAGGLE = re.compile(rf"kaggle://({_WORD}/{_WORD}/{_WORD}/{_WORD})(?:/([1-9][0-9]*))?")


def fetch(address):
    """Return the folder of a preset's address, downloaded if need be.

    Says on standard error, in one line, which revision or version it is, so that one
    can pin it, and whether it comes from the cache for want of a network.

    Args:
        address: "hf://user/name", with "@" and a branch, tag or commit to pin it; or
            "kaggle://owner/model/framework/variation", with "/" and a version.

    Raises:
        PresetError: A malformed address, no such preset, or neither network nor cache.
        ImportError: huggingface_hub or kagglehub is not installed.
    """
    if match := _HF.fullmatch(address):
        return _hugging_face(*match.groups())
    if match := _KAGGLE.fullmatch(address):
        return _kaggle(*match.groups())
    form = FORMS[address.partition("://")[0]]
    raise PresetError(f"{address!r} is no address of a preset; it has the form {form}.")


def _hugging_face(repo, revision):
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise _missing("hf://", "huggingface_hub") from error
    address = f"hf://{repo}" + (f"@{revision}" if revision else "")
    offline = _out_of_reach(repo, revision, address)
    try:
        snapshot = hub.snapshot_download(
            repo,
            revision=revision,
            allow_patterns=FILES,
            local_files_only=offline is not None,
        )
    except Exception as error:
        raise PresetError(
            f"{address} is not wholly in the cache and could not be fetched "
            f"({_line(offline or error)}). Fetch it once with a network, or copy its "
            "folder here and load that."
        ) from error
    commit = Path(snapshot).name
    source = "commit" if offline is None else "no network; from the cache, commit"
    _say(f"{address}: {source} {commit}", f"hf://{repo}@{commit}", revision == commit)
    return _regular_files(Path(snapshot), repo.split("/")[1])


def _out_of_reach(repo, revision, address):
    """Return None when Hugging Face has the revision, or why it gives no answer."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi().model_info(repo, revision=revision, timeout=10)
    except errors.GatedRepoError as error:
        raise PresetError(
            f"{address} asks its users to sign in and agree to terms: do so on its "
            "page, then `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise PresetError(f"hf://{repo} has no revision {revision!r}.") from error
    except errors.RepositoryNotFoundError as error:
        raise PresetError(
            f"Hugging Face has no {address}, or it is private: then `hf auth login`."
        ) from error
    except Exception as error:  # Of whatever HTTP client is in use.
        return error
    return None


def _regular_files(snapshot, name):
    """Return a folder of regular files in place of a snapshot's links into the cache.

    Hard links, made where a link ends among the blobs of this very repository, so that
    the loader can go on refusing links.
    """
    repository = snapshot.parents[1]
    blobs = (repository / "blobs").resolve()
    folder = repository / "zoo" / snapshot.name / name
    try:
        for file in [f for p in FILES for f in sorted(snapshot.glob(p))]:
            blob, target = file.resolve(), folder / file.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not blob.is_file() or (file.is_symlink() and blob.parent != blobs):
                raise PresetError(f"{file} leads out of the cache of its repository.")
            if target.is_file() and target.samefile(blob):
                continue
            scratch = target.with_name(f".{file.name}.{os.getpid()}.part")
            try:
                os.link(blob, scratch)
            except OSError:  # A file system without hard links.
                shutil.copyfile(blob, scratch)
            os.replace(scratch, target)
    except OSError as error:
        raise PresetError(f"{folder} cannot be written: {error}") from error
    return folder


def _kaggle(handle, version):
    try:
        import kagglehub
    except ImportError as error:
        raise _missing("kaggle://", "kagglehub") from error
    address = f"kaggle://{handle}" + (f"/{version}" if version else "")
    try:
        folder = Path(kagglehub.model_download(address.removeprefix("kaggle://")))
    except Exception as error:  # Of many types, from several libraries.
        raise PresetError(
            f"{address} could not be fetched ({_line(error)}). Without a network a "
            "version in the cache loads, by its number; with one, see whether "
            f"https://www.kaggle.com/models/{handle} is there."
        ) from error
    _say(
        f"{address}: version {folder.name}", f"kaggle://{handle}/{folder.name}", version
    )
    return folder


def _say(text, pinned, is_pinned):
    hint = "" if is_pinned else f" (to pin it: {pinned})"
    print(f"{text}{hint}.", file=sys.stderr)


def _line(error):
    """Return the type of an error and the first line of its text."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"[:300]


def _missing(scheme, package):
    return ImportError(
        f'Addresses with {scheme} need {package}: pip install "generative-zoo[hub]".'
    )
