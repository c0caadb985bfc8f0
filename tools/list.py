"""List the presets.

zoo list
zoo list --json
"""

import json

from absl import app, flags

from zoo import MODELS, _registry
from zoo._card import weights_of

_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")


def rows():
    """Return what the table shows of each preset, as a list of dicts."""
    table = []
    for name in _registry.presets():
        card = _registry.read(_registry.home() / name)
        weights = weights_of(card)
        first = next(iter(card.get("metrics", {}).items()), None)
        table.append(
            {
                "name": name,
                "family": MODELS[card["model"]].split(".")[1],
                "model": card["model"],
                "data": card.get("data", {}).get("name"),
                "parameters": card["parameters"],
                "megabytes": weights and round(weights["bytes"] / 1e6, 2),
                "metric": first and {"name": first[0], **first[1]},
                "licence": card.get("licence"),
            }
        )
    return table


def main(argv):
    if len(argv) > 1:
        raise app.UsageError("zoo list takes no arguments.")
    table = rows()
    if _JSON.value:
        print(json.dumps(table, indent=2, ensure_ascii=False))
        return
    lines = [("NAME", "FAMILY", "DATA", "PARAMETERS", "MB", "METRIC", "LICENCE")]
    for row in table:
        metric = row["metric"]
        measured = metric and metric["value"] is not None
        unit = f" {metric['unit']}" if metric and metric.get("unit") else ""
        lines.append(
            (
                row["name"],
                row["family"],
                row["data"] or "-",
                f"{row['parameters']:,}",
                f"{row['megabytes']:.2f}" if row["megabytes"] else "untrained",
                f"{metric['name']} {metric['value']:g}{unit}" if measured else "-",
                row["licence"] or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())
    trained = sum(bool(row["megabytes"]) for row in table)
    print(f"\n{len(table)} presets, {trained} with weights. `zoo info NAME` says more.")
