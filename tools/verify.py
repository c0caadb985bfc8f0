"""Recompute every number on a card from the weights.

zoo verify vae-mnist
zoo verify --all
zoo verify --all --quick               seconds instead of many minutes
zoo verify runs/mine --update          measure, and write the card
zoo verify runs/mine --seeds runs/b,runs/c    and what other seeds came to, beside it
"""

import functools
import time

from absl import app, flags

import zoo
from zoo import _registry
from zoo._card import weights_of
from zoo._saving import write_card
from zoo.tools import _measures, evaluate

_ALL = flags.DEFINE_bool("all", False, "Every preset with weights.")
_QUICK = flags.DEFINE_bool("quick", False, "On the few rows that the card names.")
_UPDATE = flags.DEFINE_bool("update", False, "Write what was measured into the card.")
_SEEDS = flags.DEFINE_list(
    "seeds", None, "Runs of the same recipe by other seeds, to measure for the card."
)


def verify(name, update=False, quick=False, manual_dir=None):
    """Compare the numbers on a preset's card with fresh ones, and print them.

    Args:
        name: A preset.
        update: Whether to write the fresh numbers into config.json and README.md.
        quick: Whether to measure what takes long on the card's few rows only.
        manual_dir: Folder of the data set's own files.

    Returns:
        list: Names of the numbers that lie outside their tolerance.
    """
    folder = _registry.find(name)
    card = _registry.read(folder)
    listed, few = card.get("metrics", {}), card.get("quick", {"values": {}})
    model = zoo.load(name)
    where = functools.partial(_measures.held_out, card, model, None, manual_dir)
    data, train = where() if listed else None, functools.partial(where, "train")
    wrong = []
    if few["values"] and (quick or update):
        rows = data.only(slice(few["limit"]))
        wanted = {key: listed[key] for key in few["values"]}
        wrong += _compare(name, model, rows, train, wanted, few["values"], update)
    held = {key: entry.get("value") for key, entry in listed.items()}
    if quick:
        held = {key: value for key, value in held.items() if key not in few["values"]}
    wanted = {key: listed[key] for key in held}
    wrong += _compare(name, model, data, train, wanted, held, update)
    if update:
        for key, value in held.items():
            listed[key]["value"] = value
        write_card(folder, card)
    return wrong


def _compare(name, model, data, train, listed, held, update):
    """Measure `listed` metrics; return the wrong among `held`, or write into it."""
    wanted, start = {key: e.get("with", {}) for key, e in listed.items()}, time.time()
    progress = functools.partial(evaluate.bar, start=start)
    fresh = _measures.measure(model, data, wanted, progress, train)
    wrong = []
    for key, value in fresh.items():
        old, tolerance = held[key], listed[key]["tolerance"]
        good = old is not None and abs(value - old) <= tolerance
        if update:
            held[key], verdict = float(f"{value:.6g}"), "written"
        else:
            verdict = "good" if good else "WRONG"
            wrong += [] if good else [key]
        said = "no number" if old is None else f"{old:g} ± {tolerance:g}"
        rows = f"{len(data):,} rows"
        print(
            f"{name:22s} {key:32s} {rows:11s} card {said:16s} now {value:.6g} {verdict}"
        )
    return wrong


def seeds(name, runs, manual_dir=None):
    """Measure runs that differ by their seeds, and write it into a preset's card.

    Args:
        name: A preset.
        runs: Presets of the same model and recipe, but for the seed.
        manual_dir: As for `verify`.

    Raises:
        app.UsageError: A run differs in more than its seed, or not in that.
    """
    folder = _registry.find(name)
    card = _registry.read(folder)
    others = {run: _registry.read(_registry.find(run)) for run in runs}
    known = {_seed(card)}
    for run, other in others.items():
        differ = [k for k in ("model", "config") if other[k] != card[k]]
        mine, theirs = _followed(card), _followed(other)
        differ += [k for k in mine | theirs if mine.get(k) != theirs.get(k)]
        if differ or _seed(other) in known:
            what = ", ".join(differ) or f"its seed {_seed(other)}, which another has"
            raise app.UsageError(
                f"--seeds takes runs of {name}'s recipe by other seeds; {run} differs "
                f"from it in {what}."
            )
        known.add(_seed(other))
    for run in runs:
        verify(run, update=True, manual_dir=manual_dir)
    measured = [_registry.read(_registry.find(run)) for run in runs]
    for key, entry in card["metrics"].items():
        if not key.partition("[")[0].endswith(" floor"):
            values = {_seed(m): m["metrics"][key]["value"] for m in measured}
            entry["seeds"] = {f"{seed}": values[seed] for seed in sorted(values)}
    write_card(folder, card)


def _seed(card):
    return card.get("recipe", {}).get("seed", 0)


def _followed(card):
    """Return a card's recipe without what a run adds to it, and its seed."""
    apart = ("seed", "run", "command", "note", "stored")
    return {k: v for k, v in card.get("recipe", {}).items() if k not in apart}


def main(argv):
    names = argv[1:]
    if _ALL.value == bool(names) or (_SEEDS.value and len(names) != 1):
        one = "one preset with --seeds, " if _SEEDS.value else ""
        raise app.UsageError(f"zoo verify takes {one}presets, or --all.")
    if _SEEDS.value:
        seeds(names[0], _SEEDS.value, flags.FLAGS.manual_dir)
        print(f"Wrote what {len(_SEEDS.value)} other seeds came to into {names[0]}.")
        return 0
    if _ALL.value:
        cards = {n: _registry.read(_registry.home() / n) for n in _registry.presets()}
        names = [n for n, card in cards.items() if weights_of(card)]
    manual_dir = flags.FLAGS.manual_dir
    wrong = {n: verify(n, _UPDATE.value, _QUICK.value, manual_dir) for n in names}
    failed = {name: keys for name, keys in wrong.items() if keys}
    if failed:
        which = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in failed.items())
        print(f"Not as the card says: {which}.")
        return 1
    done = "written" if _UPDATE.value else "as its card says"
    several = "s" if len(names) > 1 else ""
    print(f"Verified {len(names)} preset{several}: every number is {done}.")
    return 0
