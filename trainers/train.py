"""Train a preset by its recipe and save the result as a preset.

zoo train --preset vae-mnist --out runs/vae-mnist
zoo train --preset vae-mnist --init vae-mnist --data my_pictures --out runs/mine
zoo train --preset vae-mnist --out runs/vae-mnist --resume
zoo train --preset vae-mnist --out /tmp/try --smoke
KERAS_BACKEND=jax zoo train --preset vae-mnist --out runs/vae --strategy data_parallel
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

import zoo
from zoo import _midi, _registry
from zoo._backend import accelerator
from zoo._optimizers import from_recipe
from zoo._saving import save_preset
from zoo.trainers import checkpoints, strategies
from zoo.trainers.callbacks import Watch
from zoo.trainers.data import Batches, DataError, judge_of, open_for
from zoo.trainers.pictures import PICTURES, SAMPLES, Grid, can_sample
from zoo.trainers.texts import vocabulary_of

FLAGS = flags.FLAGS
GRIDS = 50  # Of samples at the ends of epochs, about.
_PRESET = flags.DEFINE_string("preset", None, "Preset whose recipe to follow.")
_OUT = flags.DEFINE_string("out", None, "Folder to write the trained preset to.")
_INIT = flags.DEFINE_string("init", None, "Preset or folder to start from.")
_DATA = flags.DEFINE_string("data", None, "tfds:NAME, noto_emoji, … or a folder.")
_MANUAL = flags.DEFINE_string("manual_dir", None, "Folder of the data's own files.")
_EPOCHS = flags.DEFINE_integer("epochs", None, "Passes over the data.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", None, "Rows of a batch.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", None, "Peak learning rate.")
_SEED = flags.DEFINE_integer("seed", None, "Of weights, noise and shuffle.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "mixed_bfloat16", "mixed_float16"], "Precision."
)
_SMOKE = flags.DEFINE_bool("smoke", False, "A few steps on little data, to try it out.")
_RESUME = flags.DEFINE_bool("resume", False, "Go on from the checkpoint in --out.")
_STRATEGY = flags.DEFINE_enum(
    "strategy", "none", list(strategies.BACKENDS), "How several devices share the work."
)
_DEVICES = flags.DEFINE_integer("devices", None, "Devices of this host; all if unset.")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes to start here.")
_MODEL_DEVICES = flags.DEFINE_integer(
    "model_devices", None, "Devices that share one copy of the weights; all if unset."
)
_LOGDIR = flags.DEFINE_string("logdir", None, "Folder to log to for TensorBoard.")


def main(argv):
    if len(argv) > 1 or not _PRESET.value or not _OUT.value:
        raise app.UsageError("zoo train takes --preset NAME and --out DIR.")
    if _LOGDIR.value:
        for package, extra in (("tensorboard", "data"), ("tensorflow", "tensorflow")):
            if importlib.util.find_spec(package) is None:
                raise ImportError(
                    f"--logdir needs {package}, which is not installed: "
                    f'pip install "generative-zoo[{extra}]".'
                )
    count = strategies.workers(_STRATEGY.value, _DEVICES.value, _WORKERS.value)
    if count > 1:
        command = [sys.executable, "-m", "zoo.tools.main", "train", *sys.argv[1:]]
        return strategies.launch(command, count, _STRATEGY.value)
    place = strategies.enter(_STRATEGY.value, _DEVICES.value, _MODEL_DEVICES.value)
    with place.scope:
        return _train(place)


def _train(place):
    out, start = Path(_OUT.value), time.time()
    card = _registry.read(_registry.find(_PRESET.value))
    recipe = followed(card.get("recipe", {}))
    _claim(out, place)
    keras.utils.set_random_seed(recipe["seed"])
    keras.config.set_dtype_policy(recipe["dtype"])
    init = recipe.get("init")
    model = zoo.load(init or _PRESET.value, weights=bool(init))
    cls = getattr(zoo, card["model"], type(model))
    if type(model).__name__ not in (card["model"], *cls.starts_from):
        raise app.UsageError(
            f"--init {init} is a {type(model).__name__}; "
            f"{_PRESET.value} is a {card['model']}."
        )
    if init:
        model = _adopt(model, card, recipe.get("adapt"))
    elif _DATA.value and getattr(model, "vocabulary", None):
        model = _of_text(model, recipe)
    if "samples.mid" in SAMPLES.get(model.medium, ()):
        _midi.load()  # Missed now, not when all is done.
    vars(model)["recipe"] = recipe
    data = opened(recipe, recipe["split"], model)
    if "only_label" in recipe:
        data = data.only(data.labels == recipe["only_label"])
    if _SMOKE.value:
        data = data.only(np.arange(min(len(data), 4 * recipe["batch_size"])))
    where = f", divided among {place.replicas} devices" if place.replicas > 1 else ""
    print(f"Training {_PRESET.value} on {len(data):,} rows of {data.name}{where}.")
    fit(model, data, recipe, out, place)
    if not place.chief:
        return
    recipe["run"] = _run_facts(time.time() - start)
    save(model, card, recipe, out, data)
    print(
        f"Wrote {out}, a preset of {model.count_params():,} parameters trained for "
        f"{recipe['epochs']} epochs, in {time.time() - start:.0f} s; "
        f'zoo.load("{out}") reads it.'
    )


def opened(recipe, split, model):
    """Return a split of the data of a recipe, as the model takes it."""
    how = {k: recipe[k] for k in ("length", "transpose") if k in recipe}
    return open_for(model, recipe["data"], split, _MANUAL.value, **how)


def followed(recipe):
    """Return the recipe that is really followed: the preset's, changed by flags."""
    recipe = {"seed": 0, "dtype": "float32", "split": "train", **recipe}
    recipe = {k: v for k, v in recipe.items() if k not in ("run", "command")}
    changes = {
        "init": _INIT.value,
        "data": _DATA.value,
        "epochs": 1 if _SMOKE.value else _EPOCHS.value,
        "batch_size": _BATCH.value,
        "seed": _SEED.value,
        "dtype": _DTYPE.value,
    }
    recipe.update({k: v for k, v in changes.items() if v is not None})
    missing = [k for k in ("data", "batch_size", "epochs") if k not in recipe]
    if missing:
        raise ValueError(
            f"The recipe of {_PRESET.value} says no {', '.join(missing)}. Give "
            "--data, --batch_size and --epochs, or take a preset with a recipe."
        )
    if _RATE.value is not None:
        recipe.setdefault("optimizer", {"name": "adam"})
        entry = recipe["optimizer"]
        parts = [entry] if "name" in entry else entry.values()
        for part in parts:
            part["learning_rate"] = _RATE.value
    return recipe


def fit(model, data, recipe, out, place):
    """Train with progress, a log, sample grids and checkpoints in `out`."""
    shared = (place.replicas, place.process, place.processes)
    batches = Batches(data, recipe["batch_size"], recipe["seed"], *shared)
    names = [name for name, _, _ in model.turns()]
    optimizer = from_recipe(recipe, names, len(batches) * recipe["epochs"])
    model.compile(optimizer, jit_compile=recipe.get("jit_compile", "auto"))
    config = json.loads(json.dumps(model.get_config()))
    about = {**recipe, "model": type(model).__name__, "config": config}
    done, steps, metrics = 0, 0, None
    if _RESUME.value:
        done, steps, metrics = checkpoints.restore(model, out, about)
    monitor = recipe.get("monitor", "loss" if names == ["loss"] else None)
    saving = checkpoints.Checkpoint(out, about, monitor, place.chief, steps, metrics)
    callbacks = [batches.follow(steps), saving]
    if place.chief:
        log = keras.callbacks.CSVLogger(str(out / "log.csv"), append=done + steps > 0)
        every = max(1, recipe["epochs"] // GRIDS)
        callbacks += [
            *_watch(model, data, recipe),
            log,
            Grid(out / "samples", data, every),
        ]
        if _LOGDIR.value:
            callbacks.append(keras.callbacks.TensorBoard(_LOGDIR.value))
    # Keras would shuffle the batches again, by no seed of ours.
    common = {"shuffle": False, "callbacks": callbacks}
    if steps:  # Keras fixes the length of epochs: the rest of one is a fit of its own.
        batches.start(done, steps)
        with _unfinished(model.optimizer):
            model.fit(batches, initial_epoch=done, epochs=done + 1, **common)
        done += 1
    batches.start(done)
    model.fit(batches, initial_epoch=done, epochs=recipe["epochs"], **common)
    if recipe.get("keep") == "best":
        epoch = checkpoints.take_best(model, out)
        print(f"Keeping the weights of epoch {epoch}, the best by {monitor}.")


def _watch(model, data, recipe, rows=2_000):
    """Return what looks for a collapse, for models of which that is known."""
    if not hasattr(model, "judge") or len(data) < 2:
        return []
    found = data[np.arange(min(len(data), rows))]
    images, labels = found if isinstance(found, tuple) else (found, None)
    judge = judge_of(recipe["data"])
    if judge:
        judge = zoo.load(judge)
        judge = judge if judge.image_shape == model.image_shape else None
    return [Watch(images, labels, judge)]


@contextlib.contextmanager
def _unfinished(optimizer):
    """Let a fit end without replacing the weights by their averages."""
    optimizer.finalize_variable_values = lambda variables: None
    yield
    del optimizer.finalize_variable_values


def save(model, card, recipe, out, data):
    """Save the trained model as a preset, with what its card can say by now."""
    own = sorted(FLAGS.flags_by_module_dict()[__name__], key=lambda flag: flag.name)
    used = [f.serialize() for f in own if f.present and f.name not in ("resume", "out")]
    recipe["command"] = " ".join(["zoo train", *used, f"--out=runs/{out.name}"])
    shown = SAMPLES[model.medium] if can_sample(model) else []
    pictures = dict.fromkeys(shown, "Samples")
    pictures.update(card.get("pictures", {}))
    test = data
    shows = model.pairs or {"fill", "chat"} & {*model.verbs()}
    shows = shows or "inpainting.png" in pictures
    if shows and not _SMOKE.value:
        with contextlib.suppress(DataError):  # A folder may have no test split.
            test = opened(recipe, "test", model)
    for name in pictures:
        PICTURES[name](model, out / name, test, data)
    kept = ["summary", "use", "limits", "pictures"]
    entries = {k: card[k] for k in kept if k in card}
    if recipe["data"] == card.get("recipe", {}).get(
        "data"
    ):  # Its numbers are still to measure.
        kept = ("licence", "data")
        entries.update({k: card[k] for k in kept if k in card})
        listed = card.get("metrics", {})
        entries["metrics"] = {
            key: {k: None if k == "value" else v for k, v in m.items() if k != "seeds"}
            for key, m in listed.items()
        }
        if "quick" in card:
            values = dict.fromkeys(card["quick"]["values"])
            entries["quick"] = {**card["quick"], "values": values}
    dtype = recipe.get("stored", "float32")
    save_preset(model, out, dtype=dtype, files=list(pictures), **entries)


def _claim(out, place):
    """Make the folder, or refuse one that is in use."""
    used = out.exists() and (out.is_file() or any(out.iterdir()))
    if used and not _RESUME.value and place.chief:
        raise app.UsageError(
            f"--out {out} exists. Take another folder, or --resume to go on in it."
        )
    out.mkdir(parents=True, exist_ok=True)


def _adopt(model, card, adapt):
    """Give the weights of --init to a model with the preset's own arguments.

    With `adapt`, the arguments of `Model.adapt`, an adapter to them learns.
    """
    own = getattr(zoo, card["model"])(**card["config"])
    try:
        own.starts(model)
    except ValueError as error:
        raise app.UsageError(
            f"The weights of --init do not fit {_PRESET.value}: {error}"
        ) from error
    if adapt:
        vars(own)["card"] = model.card  # Whose weights these are.
        own.adapt(**adapt)
    return own


def _of_text(model, recipe):
    """Return a fresh model that knows the characters of its text, if it does not."""
    there = vocabulary_of(recipe["data"], recipe["split"], _MANUAL.value)
    if set(there) <= set(model.vocabulary):
        return model
    return type(model)(**{**model.get_config(), "vocabulary": there})


def _run_facts(seconds):
    """Return how long the run took, on what and with what."""
    from importlib.metadata import version

    backend = keras.backend.backend()
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    return {
        "seconds": round(seconds),
        "hardware": accelerator() or cores,
        "software": f"keras {keras.__version__} on {backend} {version(backend)}",
    }
