"""Say what a preset is and what it can do.

zoo info vae-mnist
zoo info vae-mnist --json
"""

import json

from absl import app, flags

from zoo import MODELS, _registry
from zoo._card import card_text

_JSON = flags.DEFINE_bool("json", False, "Print config.json instead of the card.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo info takes one preset: zoo info vae-mnist.")
    folder = _registry.find(argv[1])
    card = _registry.read(folder)
    if _JSON.value:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return
    print(card_text(argv[1], card))
    print(f"Family {MODELS[card['model']].split('.')[1]}; folder {folder}")
