"""Generate samples of a preset as one picture.

zoo generate vae-mnist
zoo generate cvae-mnist --labels 3,1,4 --seed 7 --out pi.png
zoo generate runs/mine --num 100 --out mine.png
zoo generate runs/gan --truncation 2        of a GAN: fewer odd ones, less variety
"""

import time
from pathlib import Path

from absl import app, flags

import zoo
from zoo import _registry

_NUM = flags.DEFINE_integer("num", None, "Samples; 64 if unset, or one a label.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same samples.")
_LABELS = flags.DEFINE_list("labels", None, "Labels, for a conditional model.")
_TRUNCATION = flags.DEFINE_float("truncation", None, "Where a GAN's noise is cut.")
_OUT = flags.DEFINE_string("out", None, "Picture to write; NAME.png if unset.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo generate takes one preset: zoo generate vae-mnist.")
    start = time.perf_counter()
    path = Path(_OUT.value or f"{_registry.find(argv[1]).name}.png")
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise app.UsageError(f"--out is a .png in a folder that exists, not {path}.")
    conditions, num = {}, _NUM.value
    if _LABELS.value:
        try:
            conditions["labels"] = [int(label) for label in _LABELS.value]
        except ValueError:
            rule = "--labels takes whole numbers: --labels 3,1,4."
            raise app.UsageError(rule) from None
        num = num or len(conditions["labels"])
        if len(conditions["labels"]) == 1:
            conditions["labels"] = conditions["labels"][0]
    model = zoo.load(argv[1])
    columns = model.classes if model.classes and not conditions else None
    if _TRUNCATION.value is not None:
        conditions["truncation"] = _TRUNCATION.value
    num = num or (8 * columns if columns else 64)
    images = model.generate(num, seed=_SEED.value, **conditions)
    from zoo._png import save_grid

    save_grid(path, images, columns)
    seconds = time.perf_counter() - start
    print(f"Wrote {path}, {num} samples of {argv[1]} in {seconds:.1f} s.")
