"""LoRA: fine-tune a few numbers of a large model, and keep those alone.

Hu et al., 2021, https://arxiv.org/abs/2106.09685: to the matrix W of a layer comes
alpha / rank · A B, of which only A and B learn. Of a convolution, A is one to `rank`
channels and B one of a single pixel. An adapter is a folder with both of each layer,
some kilobytes, and the checksum of the weights it belongs to.
"""

import json
import re
from pathlib import Path

from keras import layers, ops

from zoo._card import ADAPTER, WEIGHTS
from zoo._saving import outline, places, sha256, whole, write_arrays

SCHEMA = 1
KINDS = layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D
NAMES = "lora_kernel_a", "lora_kernel_b"
LARGEST = 1_000_000  # bytes of adapter.json


class AdapterError(ValueError):
    """An adapter that is not there, or does not fit its model."""


def matrices(model):
    """Return path and layer of every layer that could be adapted, in order."""
    fresh, _ = outline(type(model), model.get_config())
    path_of = {id(v): path for path, v in places(fresh).items() if v is not None}
    return {
        path_of[id(plain.kernel)].strip("/").rpartition("/vars/")[0]: own
        for plain, own in zip(
            fresh._flatten_layers(include_self=False),
            model._flatten_layers(include_self=False),
            strict=True,
        )
        if isinstance(plain, KINDS)
    }


def adapt(model, paths, rank, alpha):
    """Give layers of a model low-rank matrices, and freeze the rest."""
    if getattr(model, "adapter", None):
        raise ValueError("This model is adapted already; merge() makes a plain one.")
    whole_rank = type(rank) is int and rank >= 1
    if not whole_rank or not isinstance(alpha, int | float) or not alpha > 0:
        raise ValueError(
            "adapt takes a rank of 1 or more and an alpha above 0, not "
            f"{rank!r} and {alpha!r}."
        )
    known = matrices(model)
    chosen = {path: layer for path, layer in known.items() if re.search(paths, path)}
    if not chosen:
        raise ValueError(
            f"No dense layer or convolution has a path that {paths!r} matches; there "
            f"are {', '.join(list(known)[:20])}."
        )
    for variable in model.trainable_variables:
        variable.trainable = False
    for layer in chosen.values():
        layer.enable_lora(rank, lora_alpha=alpha)
    vars(model).update(adapter={"paths": [*chosen], "rank": rank, "alpha": alpha})
    model._functions.clear()
    if model.compiled:
        model.compile()


def merged(model):
    """Return a plain model with what an adapted one computes."""
    if not getattr(model, "adapter", None):
        raise ValueError("merge() is for a model that adapt() or an adapter changed.")
    copy = type(model)(**model.get_config())
    vars(copy).update(recipe=model.recipe)
    added = {id(getattr(own, n)) for own in _adapted(model).values() for n in NAMES}
    values = {id(layer._kernel): layer.kernel for layer in _adapted(model).values()}
    kept = [w for w in model.weights if id(w) not in added]
    copy.set_weights([ops.convert_to_numpy(values.get(id(w), w)) for w in kept])
    return copy


def _adapted(model):
    """Return path and layer of those that have low-rank matrices."""
    layers_ = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, KINDS) and layer.lora_enabled
    ]
    return dict(zip(model.adapter["paths"], layers_, strict=True))


def save(model, folder):
    """Write the adapter of a model: adapter.json and adapter.weights.h5.

    Raises:
        ValueError: The model has none, or was not loaded from weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about, weights = (folder / name for name in ADAPTER)
    with whole(about) as about, whole(weights) as weights:
        write(model, about, weights)


def base_of(model):
    """Return the preset of the zoo whose very weights a model adapts, or None."""
    from zoo import _registry

    name = model.card.get("name") if getattr(model, "adapter", None) else None
    if name not in _registry.presets():
        return None
    there, own = _registry.read(_registry.home() / name)["files"], model.card["files"]
    return name if WEIGHTS in own and there.get(WEIGHTS) == own[WEIGHTS] else None


def write(model, about, weights, dtype="float32"):
    """Write an adapter into two files, as `save` does."""
    base = model.card.get("files", {}).get(WEIGHTS)
    if not getattr(model, "adapter", None) or not base:
        raise ValueError(
            "An adapter belongs to the weights of a preset: zoo.load one, then "
            "adapt(), fit() and save_adapter()."
        )
    arrays = {
        f"/{path}/{name}": ops.convert_to_numpy(getattr(layer, name))
        for path, layer in _adapted(model).items()
        for name in NAMES
    }
    write_arrays(weights, arrays, dtype)
    found = {
        "schema": SCHEMA,
        "model": type(model).__name__,
        "preset": model.card.get("name"),
        "base_sha256": base["sha256"],
        "weights_sha256": sha256(weights),
        **model.adapter,
    }
    about.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def load(model, folder):
    """Adapt a model that `zoo.load` just read, as an adapter says.

    Raises:
        AdapterError: The folder is no adapter, was changed, or is one of other weights.
    """
    try:
        _load(model, Path(folder))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(f"{folder} does not fit: {str(error)[:1000]}") from error


def _load(model, folder):
    from zoo import _hdf5

    about, weights = (folder / name for name in ADAPTER)
    if about.stat().st_size > LARGEST:
        raise ValueError(f"adapter.json has more than {LARGEST:,} bytes.")
    found = json.loads(about.read_text("utf-8"))
    if found["schema"] != SCHEMA:
        raise ValueError(f"it has schema {found['schema']!r}; this zoo reads {SCHEMA}.")
    if found["base_sha256"] != model.card["files"][WEIGHTS]["sha256"]:
        raise ValueError(
            f"it is of other weights than these, of the preset {found['preset']!r}."
        )
    if sha256(weights) != found["weights_sha256"]:
        raise ValueError("adapter.weights.h5 is not the file that adapter.json lists.")
    wanted = found["paths"]
    if not isinstance(wanted, list) or set(wanted) - set(matrices(model)):
        raise ValueError("it adapts layers that the model has not.")
    exactly = "|".join(f"^{re.escape(path)}$" for path in wanted)
    adapt(model, exactly, found["rank"], found["alpha"])
    places_ = {
        f"/{path}/{name}": getattr(layer, name)
        for path, layer in _adapted(model).items()
        for name in NAMES
    }
    with open(weights, "rb") as file:
        reader = _hdf5.Reader(file)
        for path, header in reader.items():
            if _hdf5.GROUP not in header:
                variable = places_.pop(path)
                variable.assign(reader.array(path, header, tuple(variable.shape)))
    if places_:
        raise ValueError(f"it lacks {next(iter(places_))}.")
