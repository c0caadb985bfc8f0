"""Export a preset's sampler, noise in and data out, and check the copy.

zoo export vae-mnist --format litert --out vae.tflite
zoo export vae-mnist --format saved_model --out models/vae/1
zoo export runs/mine --out mine.tflite --batch 8
"""

import time

from absl import app, flags

import zoo

_FORMAT = flags.DEFINE_string(
    "format", "litert", "litert, for phones, or saved_model, for TensorFlow Serving."
)
_OUT = flags.DEFINE_string(
    "out", None, "File ending in .tflite (litert) or folder to write; must not exist."
)
_BATCH = flags.DEFINE_integer("batch", 1, "Samples drawn by one call.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError(
            "zoo export takes one preset: zoo export vae-mnist --out vae.tflite."
        )
    if not _OUT.value:
        raise app.UsageError("--out names what to write: --out vae.tflite.")
    start = time.perf_counter()
    model = zoo.load(argv[1])
    differences = model.export(_OUT.value, format=_FORMAT.value, batch=_BATCH.value)
    from zoo._export import size

    names, worst = ", ".join(differences), max(differences.values())
    print(
        f"Wrote {_OUT.value}, {size(_OUT.value) / 1e6:.1f} MB: {names} of {argv[1]}, "
        f"within {worst:.1e} of Keras, in {time.perf_counter() - start:.1f} s."
    )
