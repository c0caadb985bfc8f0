"""Recompute every number on a card from the weights.

zoo verify vae-mnist
zoo verify --all
zoo verify runs/mine --update           measure, and write the card
"""

import time

from absl import app, flags

import zoo
from zoo import _registry
from zoo._saving import write_card
from zoo.tools import evaluate

_ALL = flags.DEFINE_bool("all", False, "Every preset with weights.")
_UPDATE = flags.DEFINE_bool("update", False, "Write what was measured into the card.")


def verify(name, update=False, manual_dir=None):
    """Compare the numbers on a preset's card with fresh ones, and print them.

    Args:
        name: A preset.
        update: Whether to write the fresh numbers into config.json and README.md.
        manual_dir: Folder of the data set's own files.

    Returns:
        list: Names of the numbers that lie outside their tolerance.
    """
    folder = _registry.find(name)
    card, start = _registry.read(folder), time.time()
    listed = card.get("metrics", {})
    model = zoo.load(name)
    data = evaluate.held_out(card, model, manual_dir=manual_dir) if listed else None
    wanted = {key: entry.get("with", {}) for key, entry in listed.items()}
    fresh = evaluate.measure(model, data, wanted, lambda s: evaluate.bar(s, start))
    wrong = []
    for key, value in fresh.items():
        entry = listed[key]
        held = entry.get("value")
        good = held is not None and abs(value - held) <= entry["tolerance"]
        if update:
            entry["value"], verdict = float(f"{value:.6g}"), "written"
        else:
            verdict = "good" if good else "WRONG"
            wrong += [] if good else [key]
        said = "no number" if held is None else f"{held:g} ± {entry['tolerance']:g}"
        print(f"{name:18s} {key:20s} card {said:18s} measured {value:.6g}  {verdict}")
    if update:
        write_card(folder, card)
    return wrong


def main(argv):
    names = argv[1:]
    if _ALL.value == bool(names):
        raise app.UsageError("zoo verify takes presets, or --all.")
    if _ALL.value:
        cards = {n: _registry.read(_registry.home() / n) for n in _registry.presets()}
        names = [n for n, card in cards.items() if "model.weights.h5" in card["files"]]
    manual_dir = flags.FLAGS.manual_dir
    wrong = {n: verify(n, _UPDATE.value, manual_dir) for n in names}
    failed = {name: keys for name, keys in wrong.items() if keys}
    if failed:
        which = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in failed.items())
        print(f"Not as the card says: {which}.")
        return 1
    done = "written" if _UPDATE.value else "as its card says"
    several = "s" if len(names) > 1 else ""
    print(f"Verified {len(names)} preset{several}: every number is {done}.")
    return 0
