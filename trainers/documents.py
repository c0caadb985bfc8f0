"""Documents as training data: modules, files of a folder, and conversations.

data = open_documents("python:stdlib", "train", model)      a model of "texts"
data = open_documents("chatterbot", "train", model)         a model of "chats"
data[:8]                                   (8, 128) numbers, -1 between documents
"""

import hashlib
import itertools
import json
import os
import sysconfig
from pathlib import Path

from zoo._documents import as_text, packed, turns_of
from zoo.trainers.data import Data, DataError, require

LENGTH = 128  # Symbols of a window, if a recipe says no other.
SPLITS = {0: "test", 1: "validation"}  # Of twenty parts; the others are for training.
# What is no library, or not written by hand: tests, tables, other people's packages.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "__pycache__", "_bundled"}
LEFT_OUT |= {"encodings", "pydoc_data", "lib2to3", "turtledemo", "lib-dynload"}
SUFFIXES = ".txt", ".md", ".py"


class Documents(Data):
    """Windows of one length, in which documents lie one after another.

    Args:
        texts: The documents.
        model: With `numbers(text)`.
        length: Symbols of a window.
        name: For messages.
    """

    def __init__(self, texts, model, length, name):
        self.texts = texts
        rows = packed([model.numbers(t, f"text of {name}") for t in texts], length)
        super().__init__(rows, name=name)


def open_documents(address, split, model, length=None, manual_dir=None):
    """Return the `Documents` at an address.

    Args:
        address: "python:stdlib" for the modules of this Python's own library, split
            by package; or a folder of .txt, .md and .py files, each a document. Of a
            model of "chats": "chatterbot" for the corpus of ChatterBot; or a .jsonl
            file of conversations, each {"messages": […]} as `GPT.chat` takes them, a
            folder of such, or of .yml files as in that corpus.
        split: "train", "validation" or "test"; a folder that has one of that name, or
            a file such as test.jsonl, is read there. Else what is in "train" is
            eighteen conversations or packages of twenty, and a file is read whole.
        model: With `documents`.
        length: Symbols of a window; at most the model's.
        manual_dir: Folder of the corpus; else $ZOO_MANUAL_DIR/chat.

    Raises:
        DataError: Nothing is there, or it is in another form.
    """
    read = read_chats if model.documents == "chats" else read_texts
    texts = read(str(address), split, manual_dir)
    if not texts:
        raise DataError(f"There are no documents in the split {split} of {address}.")
    length = min(length or model.window or LENGTH, model.window)
    try:
        return Documents(texts, model, length, f"{address} {split}")
    except ValueError as error:
        raise DataError(f"{error} Take them out or replace them.") from None


def read_texts(address, split, manual_dir=None):
    """Return the documents at an address, a list of str."""
    if address == "python:stdlib":
        return [text for _, text in read_library(split)]
    files = _files(address, split, SUFFIXES)
    try:
        return [text for f in files if (text := f.read_text("utf-8-sig")).strip()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"Text is UTF-8; {address} has a file that is not: {error}."
        ) from error


def read_library(split):
    """Return the modules of Python's own library, (name, text) each.

    All of a package are in one split: "train", or one in twenty packages in each of
    "validation" and "test".
    """
    root, found = Path(sysconfig.get_path("stdlib")), []
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        package = name.parts[0].removesuffix(".py")
        if LEFT_OUT & {*name.parts} or package.startswith("_sysconfigdata"):
            continue
        if _part(package) == split:
            text = file.read_text("utf-8", "replace")
            if text.strip():
                found.append((str(name), text))
    return found


def read_chats(address, split, manual_dir=None):
    """Return conversations as texts, a turn a line."""
    if address == "chatterbot":
        home = os.environ.get("ZOO_MANUAL_DIR")
        address = str(manual_dir or (home and Path(home) / "chat") or address)
        if not Path(address).is_dir():
            raise DataError(
                "ChatterBot's corpus is not on this machine. Put its English .yml "
                "files into a folder named by --manual_dir, or into "
                "$ZOO_MANUAL_DIR/chat; they are chatterbot_corpus/data/english of "
                "https://github.com/gunthercox/chatterbot-corpus (BSD-3-Clause)."
            )
    found = []
    for file in _files(address, split, (".yml", ".yaml", ".jsonl")):
        read = _lines if file.suffix == ".jsonl" else _corpus
        found += [as_text(turns) for turns in read(file)]
    if _is_split(address, split):
        return found
    return [text for text in found if _part(text) == split]


def _is_split(address, split):
    """Say whether what lies at an address is that split, and need not be divided."""
    path = Path(address)
    own = path / split, path / f"{split}.jsonl"
    return path.is_file() or any(part.exists() for part in own)


def _files(address, split, suffixes):
    """Return the files at an address, those of a split where it has such."""
    path = Path(address)
    for part in (path / split, *(path / f"{split}{s}" for s in suffixes)):
        if part.exists():
            path = part
            break
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    files = [file for file in files if file.suffix.lower() in suffixes]
    if not files:
        raise DataError(
            f"There are no documents at {address}: a file, or a folder of files, that "
            f"end in {', '.join(suffixes)}."
        )
    return files


def _lines(file):
    """Yield the conversations of a .jsonl file."""
    for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield turns_of(row["messages"] if isinstance(row, dict) else row)
        except (ValueError, KeyError) as error:
            raise DataError(
                f'A line is {{"messages": [{{"role": "user", "content": "…"}}, …]}}; '
                f"line {number} of {file} is not: {error}"
            ) from error


def _corpus(file):
    """Yield the conversations of a .yml file of ChatterBot's corpus."""
    require("yaml", "pyyaml")
    import yaml

    try:
        # By this loader, Yes and 1969 are texts; and nothing but texts and lists comes.
        read = yaml.load(file.read_text("utf-8"), Loader=yaml.BaseLoader)
        if not isinstance(read["conversations"], list):
            raise TypeError("it is one text")
        for turns in read["conversations"]:
            texts = [*itertools.takewhile(_says, turns)]  # Some end in further lists.
            if len(texts) > 1:
                yield turns_of(texts)
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no list of `conversations:`: {error}") from error


def _says(turn):
    return isinstance(turn, str) and bool(turn.strip())


def _part(name):
    """Return the split that something belongs to, by a checksum of its name."""
    digest = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    return SPLITS.get(digest % 20, "train")
