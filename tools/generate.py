"""Generate samples of a preset: pictures, text, music or speech.

zoo generate vae-mnist
zoo generate cvae-mnist --labels 3,1,4 --seed 7 --out pi.png
zoo generate runs/mine --num 100 --out mine.png
zoo generate runs/gan --truncation 2        of a GAN: fewer odd ones, less variety
zoo generate lstm-shakespeare --prompt "ROMEO:" --length 500 --temperature 0.8
zoo generate gru-speech-digits --labels 0,4,2 --speakers 1 --out call.wav
zoo generate lstm-chorales --prompt hymn.mid --out more.mid     also .wav and .png
zoo generate ddpm-mnist --solver heun --steps 10 --guidance 2      of a denoiser
"""

import functools

from absl import app, flags

import zoo
from zoo import _registry
from zoo.tools._samples import write

_MORE = (
    flags.DEFINE_float("truncation", None, "Where a GAN's noise is cut."),
    flags.DEFINE_integer("top_k", None, "Draw from so many likeliest alone."),
    flags.DEFINE_float("top_p", None, "Draw from the likeliest of this share."),
    flags.DEFINE_integer("num_beams", None, "Of text: search for what is likeliest."),
    flags.DEFINE_string("solver", None, "Solver of a denoiser."),
    flags.DEFINE_integer("steps", None, "Steps of the solver."),
)


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo generate takes one preset: zoo generate vae-mnist.")
    folder = _registry.find(argv[1])
    load = functools.partial(zoo.load, argv[1])
    write(argv[1], folder.name, _registry.medium(folder), load, _MORE)
