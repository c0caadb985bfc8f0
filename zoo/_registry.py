"""Presets are folders: list them, check one before believing it, load it.

Keras is imported by `load` alone, so that a list of presets costs nothing.
"""

import difflib
import inspect
import json
import math
import os
import re
import stat
from pathlib import Path
from reprlib import repr as short  # What a hostile file says may be long.

import zoo
from zoo._card import ADAPTER, weights_of
from zoo._saving import SCHEMA, WEIGHTS, fill, outline, read_weights, sha256

LARGEST_CONFIG = 1_000_000  # bytes
DEEPEST_CONFIG = 64
MOST_VALUES = 100_000  # in a config
LONGEST_LIST = 100  # values of an argument: layers are built one by one
LARGEST_MODEL = 10**10  # parameters
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
REQUIRED = {
    "schema": int,
    "model": str,
    "config": dict,
    "parameters": int,
    "files": dict,
}
OPTIONAL = {
    **dict.fromkeys(("summary", "use", "limits", "licence", "base"), str),
    **dict.fromkeys(("recipe", "metrics", "data", "pictures"), dict),
}


class PresetError(ValueError):
    """A preset that is not there, or not what its config.json says."""


def home():
    """Return the folder of the presets that come with the zoo."""
    here = Path(__file__).resolve().parent
    installed = here / "presets"
    return installed if installed.is_dir() else here.parent / "presets"


def presets():
    """Return the name of every preset that comes with the zoo, sorted."""
    return sorted(f.parent.name for f in home().glob("*/config.json"))


def load(preset, weights=True, adapter=None):
    """Return the model of a preset, checked file by file before it is built.

    Args:
        preset: A name from `zoo.presets()`, a folder that `save_preset` wrote, or
            keras-hub's `save_to_preset` of a GPT-2, BERT or T5;
            "hf://user/name@revision" or "kaggle://owner/model/framework/variation/3"
            (without revision or version: the newest, which is printed).
        weights: False for the architecture with fresh weights.
        adapter: Folder that `save_adapter` of this very preset wrote.

    Returns:
        A `zoo` model, with the preset's `recipe` for `compile()`.

    Raises:
        PresetError: No such preset, or a file of it is missing, altered or hostile;
            the message names file and reason.
        ValueError: The adapter is none, or belongs to other weights.
        ImportError: An address needs a package that is not installed.
    """
    folder = find(preset)
    card = read(folder)
    if weights:
        _wants_weights(preset, folder, card)
        check_files(folder, card)
    cls = _model_class(card, folder)
    try:
        model, variables = outline(cls, card["config"])
    except Exception as error:  # Whatever a constructor does with a wrong argument.
        raise PresetError(
            f"{folder}/config.json does not build a {card['model']}: {_reason(error)}"
        ) from error
    _check_count(model, card, folder, weights)
    values = {}
    if weights and WEIGHTS not in card["files"]:
        values = _adapted(model, card, folder)
    elif weights:
        path = folder / WEIGHTS
        try:
            values = read_weights(
                path, model.backbone if "published" in card else model
            )
        except Exception as error:  # h5py's own are of many types.
            raise PresetError(f"{path} does not fit: {_reason(error)}") from error
    fill(model, variables, values)
    vars(model).update(
        recipe=card.get("recipe", {}), card={"name": folder.resolve().name, **card}
    )
    if adapter is not None:
        from zoo import _lora

        _lora.load(model, adapter)
    return model


def _adapted(model, card, folder):
    """Return the values of an outline: another preset's, changed by an adapter."""
    base = card.get("base")
    if base not in presets() or ADAPTER[0] not in card["files"]:
        raise PresetError(
            f"{folder}/config.json lists an adapter, so it needs adapter.json in its "
            f"files and a base that comes with the zoo, not {short(base)}."
        )
    try:
        arrays = load(base, adapter=folder).merge().get_weights()
    except PresetError:
        raise
    except ValueError as error:
        raise PresetError(_reason(error)) from error
    if [tuple(v.shape) for v in model.weights] != [a.shape for a in arrays]:
        raise PresetError(f"{folder} has other arguments than its base, {base}.")
    return {id(v): array for v, array in zip(model.weights, arrays)}


def find(preset):
    """Return the folder of a preset's name, path or address."""
    text = str(preset)
    if text.startswith(("hf://", "kaggle://")):
        from zoo import _hub

        return _hub.fetch(text)
    if text in presets():
        return home() / text
    if os.path.isdir(text):
        if not os.path.lexists(os.path.join(text, "config.json")):
            raise PresetError(f"The folder {text} is no preset: it has no config.json.")
        return Path(text)
    near = difflib.get_close_matches(text.lower(), presets(), 1)
    # A look-alike of another alphabet shows as such: 'v\u0430e-mnist'.
    shown = ascii(text) if near else repr(text)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise PresetError(
        f"No preset is called {shown}. {hint}`zoo list` shows all; "
        "a folder, hf://user/name or kaggle://… will do too."
    )


def medium(folder):
    """Return what a preset makes or learns from, before its model is built."""
    model = read(folder)["model"]
    return getattr(zoo, model).medium if model in zoo.MODELS else "images"


def read(folder):
    """Return a preset's config.json as a dict, its form checked.

    Raises:
        PresetError: It is no regular file, too large, not JSON, or not of this form.
    """
    path = Path(folder) / "config.json"
    size = _size(path)
    if size > LARGEST_CONFIG:
        raise PresetError(f"{path} has {size:,} bytes; {LARGEST_CONFIG:,} are allowed.")
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise PresetError(f"{path} is not the JSON of a preset: {reason}") from error
    return parse(path, text)


def parse(path, text):
    """Return the text of a config.json as a dict, as `read` does."""
    try:
        if sum(map(text.count, ",[{")) > MOST_VALUES:  # Slow to read, large as Python.
            raise ValueError(f"it has more than {MOST_VALUES:,} values.")
        card = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_number,
        )
        _check_tree(card)
        if isinstance(card, dict) and "registered_name" in card:
            from zoo.transformers._published import card_of

            card = card_of(Path(path).parent, card)
    except (ValueError, RecursionError) as error:
        reason = _reason(error)
        raise PresetError(f"{path} is not the JSON of a preset: {reason}") from error
    _check_form(path, card)
    _check_manifest(path, card["files"])
    return card


def _check_form(path, card):
    """Refuse a config.json that lacks an entry, or has one of another type."""
    if not isinstance(card, dict):
        raise PresetError(f"{path} is a JSON {type(card).__name__}, not an object.")
    newer = type(card.get("schema")) is int and card["schema"] != SCHEMA
    if newer:  # Its other entries may have another form.
        raise PresetError(
            f"{path} has schema {card['schema']}; this zoo reads {SCHEMA}. "
            "A newer zoo may read it: pip install -U generative-zoo."
        )
    for key, kind in (REQUIRED | OPTIONAL).items():
        absent = key in OPTIONAL and key not in card
        if not absent and type(card.get(key)) is not kind:
            raise PresetError(
                f"{path} needs an entry {key!r} that is a {kind.__name__}, "
                f"not {short(card.get(key))}."
            )


def _check_manifest(path, files):
    """Refuse entries of `files` that are not a plain name with size and sha256."""
    for name, entry in files.items():
        # ASCII alone has no look-alikes; Windows drops dots at the end.
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", name):
            raise PresetError(
                f"{path} lists a file {ascii(name[:100])}. A file of a preset "
                "lies in its folder; its name is of letters a to z, digits, dots, - "
                "and _, with no dot at either end."
            )
        known = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"}
        if not (
            known
            and type(entry["bytes"]) is int
            and isinstance(entry["sha256"], str)
            and re.fullmatch("[0-9a-f]{64}", entry["sha256"])
        ):
            raise PresetError(
                f"{path} needs for {name} its size in bytes and its sha256: "
                '{"bytes": 1234, "sha256": "64 hexadecimal digits"}; it has '
                f"{short(entry)}."
            )
    if len({name.casefold() for name in files}) < len(files):
        raise PresetError(f"{path} lists two files that differ in capitals only.")


def check_files(folder, card):
    """Compare every listed file with its size and sha256, before any is parsed."""
    for name, entry in card["files"].items():
        path = Path(folder) / name
        size = _size(path)
        if size != entry["bytes"]:
            raise PresetError(
                f"{path} has {size:,} bytes; config.json lists {entry['bytes']:,}. "
                "It is damaged or was changed; fetch or save the preset again."
            )
        try:
            found = sha256(path)
        except OSError as error:
            raise PresetError(f"{path} cannot be read: {error}") from error
        if found != entry["sha256"]:
            raise PresetError(
                f"{path} is not the file that config.json lists: its sha256 differs. "
                "It is damaged or was changed; fetch or save the preset again."
            )


def _size(path):
    """Return the size of a regular file; refuse links, folders and pipes."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise PresetError(
            f"{path} is missing or out of reach: {error.strerror}."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "a folder, pipe or device"
        raise PresetError(f"{path} is {kind}; a preset has regular files only.")
    return status.st_size


def _wants_weights(preset, folder, card):
    if weights_of(card):
        return
    if os.path.lexists(folder / WEIGHTS):
        raise PresetError(
            f"{folder}/config.json does not list {WEIGHTS}, so that nothing says "
            "whether it is the right one; save the preset again."
        )
    raise PresetError(
        f"{preset} has no trained weights. It is a size to train: "
        f"zoo.load({str(preset)!r}, weights=False)."
    )


def _model_class(card, folder):
    """Return the zoo's own class a config names, its arguments compared."""
    name = card["model"]
    if name not in zoo.MODELS:
        raise PresetError(
            f"{folder}/config.json asks for a model {short(name)}; "
            f"the zoo has {', '.join(zoo.MODELS)}."
        )
    cls = getattr(zoo, name)
    known = inspect.signature(cls).parameters
    for key, value in card["config"].items():
        if key not in known:
            near = difflib.get_close_matches(key[:100], known, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise PresetError(
                f"{folder}/config.json gives {name} an argument {short(key)}. {hint}"
                f"It takes {', '.join(known)}."
            )
        default = known[key].default
        if not _is_like(value, default):
            raise PresetError(
                f"{folder}/config.json gives {name} {key}={short(value)}. Like its "
                f"default, {short(default)}, it is a number, a text, or a list of at "
                f"most {LONGEST_LIST}; never an object."
            )
    return cls


def _is_like(value, default):
    """Whether a value of JSON is of the kind of an argument's default.

    Never an object, of which Keras might make a layer, nor a long list, nor a text or a
    list among numbers, which Python would multiply. null is left to the model.
    """
    free = default is None or default is inspect.Parameter.empty
    if isinstance(value, list):
        if not free and not isinstance(default, tuple | list):
            return False
        kinds = (0.0,) if free else default or (0.0,)
        return len(value) <= LONGEST_LIST and all(
            any(_is_like(v, kind) for kind in kinds) for v in value
        )
    if free:
        return not isinstance(value, dict)
    whole = type(value) is int and type(default) is float
    return whole or value is None or type(value) is type(default)


def _check_count(model, card, folder, weights):
    """Compare the parameters of an outline with what config.json says and holds."""
    count, listed = model.count_params(), card["parameters"]
    if count != listed:
        raise PresetError(
            f"{folder}/config.json builds a {card['model']} of {count:,} parameters, "
            f"but lists {listed:,}."
        )
    if count > LARGEST_MODEL:
        raise PresetError(
            f"{folder}/config.json builds a {card['model']} of {count:,} parameters; "
            f"{LARGEST_MODEL:,} are allowed."
        )
    held = weights and card["files"].get(WEIGHTS)  # An adapter is compared by shapes.
    size = held["bytes"] if held else math.inf
    if size < count:  # Half of float16 is the smallest that is stored.
        raise PresetError(
            f"{folder}/{WEIGHTS} has {size:,} bytes; {count:,} parameters need "
            f"{count:,} or more."
        )


def _reason(error):
    """Return an error's text, or its type when it has none, on at most a few lines."""
    return (str(error) or type(error).__name__)[:1000]


def _unique(pairs):
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the entry {short(key)} stands twice.")
        seen.add(key)
    return dict(pairs)


def _number(text):
    """Return a finite number of at most 64 bits; NaN and Infinity come here too."""
    if re.fullmatch(r"-?\d{1,19}", text):
        value = int(text)
        if abs(value) < 2**63:
            return value
    elif not text.lstrip("-").isdigit() and math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{short(text)} is no number of 64 bits.")


def _check_tree(value, depth=1):
    """Refuse what is too deep, and texts that could not be printed safely."""
    if depth > DEEPEST_CONFIG:
        raise ValueError(f"it is deeper than {DEEPEST_CONFIG} levels.")
    if isinstance(value, str) and (found := CONTROL.search(value)):
        raise ValueError(f"a text in it has the control character {found[0]!a}.")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for child in value:
            _check_tree(child, depth + 1)
