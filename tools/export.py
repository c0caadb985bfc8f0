"""Export a preset's sampler, noise in and data out, and check the copy.

zoo export vae-mnist --format litert --out vae     a folder: model.tflite, model.json,
                                                   README.md and reference.npz
zoo export vae-mnist --out vae.tflite              the file alone
zoo export vae-mnist --out vae8 --quantize int8-dynamic
zoo export ddpm-mnist --out ddpm --steps 10
zoo export vae-mnist --format saved_model --out models/vae
zoo run vae                                        makes samples, without Keras
"""

import time

from absl import app, flags

import zoo

_FORMAT = flags.DEFINE_string(
    "format", "litert", "litert, for phones, or saved_model, for TensorFlow Serving."
)
_OUT = flags.DEFINE_string(
    "out", None, "Folder, or file ending in .tflite, to write; must not exist."
)
_BATCH = flags.DEFINE_integer("batch", None, "Samples drawn by one call; 1 if unset.")
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, ["float16", "int8-dynamic", "int8"], "How weights are stored."
)
_STEPS = flags.DEFINE_integer("steps", None, "Of a diffusion model, of its solver.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError(
            "zoo export takes one preset: zoo export vae-mnist --out vae."
        )
    if not _OUT.value:
        raise app.UsageError("--out names what to write: --out vae.")
    start = time.perf_counter()
    model = zoo.load(argv[1])
    differences = model.export(
        _OUT.value,
        format=_FORMAT.value,
        batch=_BATCH.value,
        quantize=_QUANTIZE.value,
        steps=_STEPS.value,
    )
    from zoo._export import size

    names, worst = ", ".join(differences), max(differences.values())
    print(
        f"Wrote {_OUT.value}, {size(_OUT.value) / 1e6:.1f} MB: {names} of {argv[1]}, "
        f"within {worst:.1e} of Keras, in {time.perf_counter() - start:.1f} s."
    )
