"""Measure a preset on its test set.

zoo evaluate vae-mnist
zoo evaluate runs/mine --metrics nll,elbo --limit 1000
zoo evaluate runs/gan --metrics FD,recall             by the data's own extractor, 10k
zoo evaluate runs/mine --metrics "KD[pixels]@2k" --out runs/mine.json
"""

import functools
import json
import sys
import time
from pathlib import Path

from absl import app, flags

import zoo
from zoo import _registry
from zoo._saving import whole
from zoo.tools import _distances
from zoo.tools._measures import MEASURES, held_out, measure
from zoo.trainers.data import judge_of

_METRICS = flags.DEFINE_list("metrics", None, "What to measure; the card's if unset.")
_LIMIT = flags.DEFINE_integer("limit", None, "Rows of the test set; all if unset.")
_DATA = flags.DEFINE_string("data", None, "tfds:NAME or folder; the recipe's if unset.")
_MANUAL = flags.DEFINE_string("manual_dir", None, "Folder of the data set's own files.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
_OUT = flags.DEFINE_string("out", None, "JSON to write; NAME-metrics.json if unset.")
_FEW = flags.DEFINE_bool("few", False, "Allow distances of fewer than 2,000 samples.")


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
    model, start = zoo.load(argv[1]), time.time()
    address = _DATA.value or card.get("recipe", {}).get("data")
    where = functools.partial(held_out, card, model, address, _MANUAL.value)
    data = where()
    if _LIMIT.value:
        data = data.only(slice(_LIMIT.value))
    wanted = {}
    for name in [full for short in names for full in _full(short, address)]:
        options = dict(own.get(name, {}).get("with", {}))
        if _distances.parse(name):
            name = _distances.of_at_most(name, len(data))
            options |= {"few": True} if _FEW.value else {}
        wanted[name] = options
    train = functools.partial(where, "train")
    results = measure(model, data, wanted, lambda share: bar(share, start), train)
    out = Path(_OUT.value or f"{Path(argv[1]).name}-metrics.json")
    with whole(out) as scratch:
        facts = {"preset": argv[1], "data": data.name, "rows": len(data)}
        scratch.write_text(json.dumps({**facts, "metrics": results}, indent=2) + "\n")
    if _JSON.value:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:32s} {value:.6g} {own.get(name, {}).get('unit', '')}".rstrip())
    print(
        f"Measured {argv[1]} on {len(data):,} rows of {data.name} "
        f"in {time.time() - start:.0f} s; wrote {out}."
    )


def _full(name, address):
    """Return a name of a distance in full, with its floor; others as they are."""
    if name not in _distances.BETWEEN:
        return [name]
    judge = judge_of(address or "") or "pixels"
    # The memorization of training images themselves would be 0.
    kinds = ["fake"] if name == "memorization" else ["fake", "train"]
    return [_distances.spelled(name, judge, 10_000, kind) for kind in kinds]
