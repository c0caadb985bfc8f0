"""Run an export: samples with NumPy and LiteRT, without Keras or TensorFlow.

zoo export vae-mnist --out vae && zoo run vae       vae.png
zoo run digits --labels 3,1,4 --seed 7 --out pi.png
zoo run shakespeare --prompt "ROMEO:" --length 500 --temperature 0.8
zoo run chorales --out hymn.wav                     also .mid, with mido, and .png
zoo run speech --labels 0,4,2 --speakers 1 --out call.wav
"""

import atexit
from pathlib import Path

from absl import app

from zoo import _litert
from zoo._run import Exported
from zoo.tools._samples import write


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo run takes one folder that zoo export wrote.")
    model = Exported(argv[1])
    atexit.register(_litert.hush)  # LiteRT tells of its end.
    stem = model.about["preset"] or Path(argv[1]).resolve().name
    write(argv[1], stem, model.medium, lambda: model)
