"""Measure a preset on its test set.

zoo evaluate vae-mnist
zoo evaluate runs/mine --metrics nll,elbo --limit 1000
"""

import inspect
import json
import sys
import time

import numpy as np
from absl import app, flags

import zoo
from zoo import _registry, metrics
from zoo.trainers.data import open_data

_METRICS = flags.DEFINE_list("metrics", None, "What to measure; the card's if unset.")
_LIMIT = flags.DEFINE_integer("limit", None, "Rows of the test set; all if unset.")
_DATA = flags.DEFINE_string("data", None, "tfds:NAME or folder; the recipe's if unset.")
_MANUAL = flags.DEFINE_string("manual_dir", None, "Folder of the data set's own files.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")


def likelihood(model, data, samples=5000, seed=0, progress=None):
    """Return the negative log-likelihood and ELBO in nats, lower is better."""
    images, *labels = _whole(data)
    options = {"labels": labels[0]} if labels else {}
    score, elbo = model.bounds(
        images, samples=samples, seed=seed, progress=progress, **options
    )
    return {"nll": -score.mean(), "elbo": -elbo.mean()}


def reconstruction(model, data):
    """Return the mean squared error a pixel, and how many latent variables vary."""
    images, *labels = _whole(data)
    return {
        "reconstruction_mse": metrics.mean_squared_error(
            model.reconstruct(images, *labels), images / np.float32(255)
        ),
        "active_units": metrics.active_units(model.encode(images, *labels)),
    }


def label_accuracy(model, data, judge="lenet-mnist", num=10_000, seed=0):
    """Return the share of class-balanced samples that a classifier finds right."""
    labels = np.arange(num) % model.classes
    samples = model.generate(num, seed=seed, labels=labels)
    answers = zoo.load(judge).classify(samples)
    return {"label_accuracy": metrics.accuracy(answers, labels)}


def accuracy(model, data):
    """Return the share of the test set that is classified right."""
    images, labels = _whole(data)
    return {"accuracy": metrics.accuracy(model.classify(images), labels)}


MEASURES = {
    "nll": likelihood,
    "elbo": likelihood,
    "reconstruction_mse": reconstruction,
    "active_units": reconstruction,
    "label_accuracy": label_accuracy,
    "accuracy": accuracy,
}


def measure(model, data, wanted, progress=None):
    """Measure a model.

    Args:
        model: A model of the zoo.
        data: A `Data`, its test set.
        wanted: dict of metric name to options, such as {"nll": {"samples": 5000}}.
        progress: Called with the share done of a long measurement, if given.

    Returns:
        dict: metric name to float.

    Raises:
        ValueError: A metric is unknown.
    """
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise ValueError(
            f"There is no metric {', '.join(unknown)}; there are {', '.join(MEASURES)}."
        )
    results, done = {}, {}
    for name, options in wanted.items():
        function = MEASURES[name]
        key = (function, json.dumps(options, sort_keys=True))
        if key not in done:  # One pass gives several numbers.
            if "progress" in inspect.signature(function).parameters:
                options = {**options, "progress": progress}
            done[key] = function(model, data, **options)
        results[name] = float(done[key][name])
    return results


def held_out(card, model, address=None, manual_dir=None):
    """Return the test split of the data a preset was trained on, or of another."""
    address = address or card.get("recipe", {}).get("data")
    if not address:
        raise ValueError("The preset names no data of its own; say --data.")
    labels = bool(model.classes)
    return open_data(address, "test", model.image_shape, labels, manual_dir)


def bar(share, start):
    """Show on stderr how far a measurement is, when someone watches."""
    if sys.stderr.isatty():
        left = (time.time() - start) * (1 - share) / share
        print(f"\r{share:5.1%} measured, {left:4.0f} s left ", end="", file=sys.stderr)
        if share >= 1:
            print(file=sys.stderr)


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo evaluate takes one preset: zoo evaluate vae-mnist.")
    card = _registry.read(_registry.find(argv[1]))
    own = card.get("metrics", {})
    names = _METRICS.value or list(own)
    if not names:
        raise app.UsageError(
            f"The card of {argv[1]} lists no metrics; choose with --metrics from "
            f"{', '.join(MEASURES)}."
        )
    wanted = {name: own.get(name, {}).get("with", {}) for name in names}
    model, start = zoo.load(argv[1]), time.time()
    data = held_out(card, model, _DATA.value, _MANUAL.value)
    if _LIMIT.value:
        data = data.only(slice(_LIMIT.value))
    results = measure(model, data, wanted, lambda share: bar(share, start))
    if _JSON.value:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:20s} {value:.6g} {own.get(name, {}).get('unit', '')}".rstrip())
    print(
        f"Measured {argv[1]} on {len(data):,} rows of {data.name} "
        f"in {time.time() - start:.0f} s."
    )


def _whole(data):
    """Return all images, uint8, and the labels where there are any, in a list."""
    everything = data[np.arange(len(data))]
    return list(everything) if isinstance(everything, tuple) else [everything]
