"""A preset's card, README.md, generated from its config.json and nothing else."""

import json
import re

WEIGHTS = "model.weights.h5"
ADAPTER = "adapter.json", "adapter.weights.h5"  # In its place, of another's weights.


def weights_of(card):
    """Return size and checksum of a preset's weights, or adapter; None if untrained."""
    return card["files"].get(WEIGHTS) or card["files"].get(ADAPTER[1])


def card_text(name, card):
    """Return the card of a preset as Markdown.

    Args:
        name: The preset's name.
        card: Its config.json as a dict.
    """
    trained = weights_of(card)
    parts = [f"# {name}", card.get("summary", "")]
    if "samples.png" in card["files"]:
        parts.append(f"![Samples of {name}, seed 0](samples.png)")
    for file in ("samples.txt", "samples.wav", "samples.mid"):
        if file in card["files"]:
            parts.append(f"Samples, seed 0: [{file}]({file}).")
    weights = "" if trained else ", weights=False"
    parts.append(f'```python\nmodel = zoo.load("{name}"{weights})\n```')
    if not trained:
        parts.append("A size to train: it comes without weights.")
    for title, key in (("What it is for", "use"), ("What it is not for", "limits")):
        if key in card:
            parts += [f"## {title}", card[key]]
    for file, title in card.get("pictures", {}).items():
        parts += [f"## {title}", f"![{title}]({file})"]
    if card.get("metrics"):
        parts += [
            "## Numbers",
            _numbers(card["metrics"]),
            f"`zoo verify {name}` recomputes each from the weights and fails outside "
            f"its tolerance.{_few(name, card)}",
        ]
    parts += ["## Size", _size(card)]
    if "data" in card:
        data = card["data"]
        parts += [
            "## Data and licence",
            f"Trained on {data['name']}: {data['source']} Data licence: "
            f"{data['licence']}. Weights: {card.get('licence', 'not stated')}.",
        ]
    if card.get("recipe"):
        parts += ["## Recipe", _recipe(name, card["recipe"])]
    parts.append("_Generated from config.json; edit that file._")
    return "\n\n".join(part for part in parts if part) + "\n"


def _numbers(metrics):
    rows = ["| metric | value | tolerance | protocol |", "|---|---|---|---|"]
    for key, entry in metrics.items():
        unit = f" {entry['unit']}" if entry.get("unit") else ""
        value = entry.get("value")
        said = "not measured" if value is None else f"{value:g}{unit}"
        if others := entry.get("seeds"):
            numbers = ", ".join(f"{other:g}" for other in others.values())
            said += f" (seeds {', '.join(others)}: {numbers})"
        rows.append(
            f"| {key} | {said} | ± {entry['tolerance']:g} | {entry['protocol']} |"
        )
    return "\n".join(rows)


def _few(name, card):
    if "quick" not in card:
        return ""
    rows, values = card["quick"]["limit"], card["quick"]["values"].items()
    said = ", ".join(
        f"{re.sub('@.*', f'@{rows}', key)} {value:g}"
        for key, value in values
        if value is not None
    )
    return (
        f" `zoo verify {name} --quick` does so on the first {rows} "
        f"rows of the test set: {said or 'not measured'}."
    )


def _size(card):
    weights = weights_of(card)
    kind = f"adapter to {card['base']}" if "base" in card else "weights"
    stored = f", {weights['bytes'] / 1e6:.2f} MB of {kind}" if weights else ""
    return f"{card['model']} with {card['parameters']:,} parameters{stored}."


def _recipe(name, recipe):
    shown = {k: v for k, v in recipe.items() if k not in ("command", "run")}
    command = recipe.get("command", f"zoo train --preset {name} --out runs/{name}")
    text = f"```\n{command}\n```\n\n```json\n{json.dumps(shown, indent=2)}\n```"
    if "run" in recipe:
        run = recipe["run"]
        minutes = f"{run['seconds'] / 60:.0f} minutes"
        text += f"\n\nThis run took {minutes} on {run['hardware']}, {run['software']}."
    return text
