"""Folders that keras-hub's `save_to_preset` wrote, read as presets of the zoo."""

import functools
import os

import zoo
from zoo._saving import WEIGHTS, manifest, outline

MODELS = {"GPT2Backbone": "GPT", "BertBackbone": "BERT", "T5Backbone": "T5"}
LARGEST_ASSET = 10_000_000  # bytes


def card_of(folder, found):
    """Return what config.json would say if the zoo had written the folder.

    Args:
        folder: The folder, a Path.
        found: What its config.json says.

    Raises:
        ValueError: It is of a class or form that the zoo does not read.
    """
    name = found.get("class_name")
    config = found.get("config")
    if name not in MODELS or not isinstance(config, dict):
        raise ValueError(
            f"it is of keras-hub's {name!r}; the zoo reads {', '.join(MODELS)}."
        )
    cls = getattr(zoo, MODELS[name])
    config = cls.from_published(config, functools.partial(_asset, folder))
    model, _ = outline(cls, config)
    there = [WEIGHTS] if os.path.isfile(folder / WEIGHTS) else []
    return {
        "schema": 1,
        "model": MODELS[name],
        "config": config,
        "parameters": model.count_params(),
        "summary": f"Published as {name} of keras-hub, whose card says what it is for.",
        "files": manifest(folder, there),
        "published": name,
    }


def _asset(folder, file, mode="r"):
    """Return the text of a file of the tokenizer, or its bytes, of mode "rb"."""
    path = folder / file
    if not path.is_file() or path.stat().st_size > LARGEST_ASSET:
        raise ValueError(
            f"{path} is missing, or larger than {LARGEST_ASSET:,} bytes; save the "
            "whole task, with its preprocessor, by keras-hub's save_to_preset."
        )
    return path.read_bytes() if mode == "rb" else path.read_text("utf-8")


def numbers(config, *names):
    """Return entries of a config that are whole numbers of 1 or more."""
    found = [config.get(name) for name in names]
    if not all(type(value) is int and value > 0 for value in found):
        raise ValueError(f"it needs {', '.join(names)} of 1 or more, not {found}.")
    return found
