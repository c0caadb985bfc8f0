"""Say what a preset is and what it can do.

zoo info vae-mnist
zoo info vae-mnist --json
zoo info gpt-shakespeare --attention "To be, or not to be"      of a Transformer
"""

import json

from absl import app, flags

import zoo
from zoo import MODELS, _registry
from zoo._card import card_text

_JSON = flags.DEFINE_bool("json", False, "Print config.json instead of the card.")
_ATTENTION = flags.DEFINE_string("attention", None, "Text to look at the heads with.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo info takes one preset: zoo info vae-mnist.")
    folder = _registry.find(argv[1])
    card = _registry.read(folder)
    if _ATTENTION.value is not None:
        return _draw(argv[1], folder.name, _ATTENTION.value)
    if _JSON.value:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return
    print(card_text(argv[1], card))
    print(f"Family {MODELS[card['model']].split('.')[1]}; folder {folder}")


def _draw(name, stem, text):
    """Write what every head looks at, a row of maps for each layer."""
    model, path = zoo.load(name), f"{stem}-attention.png"
    if not hasattr(model, "attention"):
        raise app.UsageError(f"{name} is a {type(model).__name__}, without attention.")
    read, *source, maps = model.attention(text)
    import numpy as np

    from zoo._png import save_grid

    depth, heads, *size = maps.shape
    scale = max(1, 96 // max(size))
    maps = maps.reshape(depth * heads, *size, 1)
    maps = np.sqrt(maps).repeat(scale, axis=1).repeat(scale, axis=2)
    save_grid(path, maps, columns=heads)
    print(
        f"Wrote {path}: {depth} layers from the top, {heads} heads each. In a map, a "
        f"row is a symbol that is read, from the top {_shown(read)}, and says how much "
        f"it looks at each of {_shown(*source) if source else 'them'}, from the left."
    )


def _shown(read, most=8):
    """Return symbols as a message names them; the start may have no text."""
    shown = [
        repr(text) if text else "an end" if i else "the start"
        for i, text in enumerate(read)
    ]
    left = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {left} more" if left > 0 else "")
