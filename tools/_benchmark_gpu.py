"""Training and sampling on the GPU at hand, with XLA and without, in two precisions.

Three models: the U-Net of `zoo benchmark diffusion` (channels 32, 64, 64 on 28×28),
DiT-B/2 on 32×32×3 (130 M) and GPT-2's 124 M over 1,024 symbols. JAX compiles by XLA,
torch runs layer by layer, TensorFlow does both. Data is random and in memory; the
optimizer is Adam. Of the Transformers, the share of the peak is that of the operations
that training needs, 6 for each weight and token and 12 × depth × width × tokens for the
attention of each (Chowdhery et al. 2022, appendix B), not of what is done.
"""

import contextlib
import fnmatch
import os

from zoo.tools._benchmark import Worker, row, serve, take_turns
from zoo.tools._benchmark_gan import PEAKS, gpu
from zoo.tools._benchmark_vae import timed

TITLE = "Training and sampling on a GPU, with and without XLA, in two precisions"
PEER = None
EXAMPLES = None
GPT = {"symbols": 50_257, "window": 1_024, "width": 768, "depth": 12, "heads": 12}
DIT = {"image_shape": (32, 32, 3), "patch": 2, "width": 768, "depth": 12, "heads": 12}
UNET = {"image_shape": (28, 28, 1), "channels": (32, 64, 64)}
# Name: class, arguments, rows of a batch, batches of a turn, images of a sample.
MODELS = {
    "U-Net": ("DDPM", UNET, 256, 100, 256),
    "DiT-B/2": ("DiT", DIT, 64, 20, 64),
    "GPT-2": ("GPT", GPT, 8, 20, 0),
}
DTYPES = "float32", "mixed_bfloat16"
UNITS = {"GPT": "symbols/s"}
STEPS = 10  # Of a sample.
XLA = {"jax": (True,), "tensorflow": (True, False), "torch": (False,)}


def measure(setting, models=MODELS, place="gpu", peak=None):
    """Return the rows, of each model in turn.

    Args:
        setting: The `Setting`.
        models: As `MODELS`, for tests.
        place: "gpu", or "cpu" for tests.
        peak: The GPU's, in TFLOP/s of bfloat16.
    """
    chip, rows = gpu() or "", []
    known = (tera for name, tera in PEAKS.items() if fnmatch.fnmatch(chip, name))
    peak = peak or next(known, None)
    for name, (kind, config, batch, batches, num) in models.items():
        with contextlib.ExitStack() as stack:
            workers = {}
            for backend in setting.backends:
                for xla in XLA[backend]:
                    for dtype in DTYPES:
                        arguments = {
                            "kind": kind,
                            "config": config,
                            "shape": (batch, batches, num),
                            "dtype": dtype,
                            "jit": xla,
                        }
                        module = "zoo.tools._benchmark_gpu"
                        worker = Worker(module, "zoo", backend, **arguments)
                        stack.enter_context(worker)
                        label = f"{backend}, {'XLA' if xla else 'no XLA'}"
                        workers[label, dtype] = worker
            setting.tell(f"warm-up: {name}, {len(workers)} programs")
            for worker in workers.values():  # They start side by side.
                found = worker.ask("place")
                if found != place:
                    raise OSError(
                        f"zoo benchmark gpu measures a {place}; Keras found a {found}."
                    )
            unit, work = UNITS.get(kind, "images/s"), _work(kind, config)
            rows += _rows(setting, name, workers, unit, bool(num), work, peak)
    return rows


def _rows(setting, name, workers, unit, samples, work, peak):
    """Return the rows of one model."""
    rows = []
    speeds = take_turns(workers, "train", setting, f"training {name}")
    for (label, dtype), found in speeds.items():
        what = f"training {name}, {dtype}"
        rows.append(row(what, unit, label, found))
        if work and peak and dtype == "mixed_bfloat16":
            shares = [100 * work * speed / (1e12 * peak) for speed in found]
            rows.append(row(f"{what}, of the peak", "%", label, shares))
    if samples:
        speeds = take_turns(workers, "sample", setting, f"sampling {name}")
        for (label, dtype), found in speeds.items():
            what = f"sampling {name}, {STEPS} steps, {dtype}"
            rows.append(row(what, unit, label, found))
    return rows


def _work(kind, config):
    """Return the operations that training needs for an image or symbol; None unknown.

    Of a block, 12 × width² weights: 4 of attention and 8 of the layers after it.
    """
    if kind == "DDPM":
        return None
    width, depth = config["width"], config["depth"]
    weights = 12 * depth * width**2
    if kind == "GPT":
        weights += config["symbols"] * width
        return 6 * weights + 12 * depth * width * config["window"]
    height, wide, _ = config["image_shape"]
    tokens = height * wide // config["patch"] ** 2
    return tokens * (6 * weights + 12 * depth * width * tokens)


def told(rows):
    """Return the table, its note and the result."""
    cells = [("MEASURE", "BACKEND", "ZOO")]
    for found in rows:
        value = found.value
        number = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
        cells.append((f"{found.measure}, {found.unit}", found.backend, number))
    note = f"On {gpu() or 'no GPU'}; batches of " + ", ".join(
        f"{batch} ({name})" for name, (_, _, batch, _, _) in MODELS.items()
    )
    shares = [found for found in rows if found.unit == "%"]
    best = max(shares, key=lambda found: found.value, default=None)
    result = "The share of the peak is not known: say --peak."
    if best:
        result = f"At most {best.value:.0f} % of the peak, by {best.measure}."
    return cells, note + ".", result


# What follows runs in the workers


def ours(kind, config, shape, dtype, jit):
    """Return the commands of one model, warm."""
    import keras
    import numpy as np

    import zoo
    from zoo.tools._benchmark_gpt import model_of
    from zoo.tools._benchmark_scaling import _platform

    batch, batches, num = shape
    keras.config.set_dtype_policy(dtype)
    draw, size = np.random.default_rng(0), batch * batches
    if kind == "GPT":
        model = model_of(config)
        rows = draw.integers(
            0, config["symbols"], (size, config["window"]), dtype="int32"
        )
    else:
        model = getattr(zoo, kind)(**config)
        rows = draw.random((size, *model.image_shape), dtype="float32")
    model.compile(keras.optimizers.Adam(1e-4), jit_compile=jit)
    total = rows.size if kind == "GPT" else size

    def train():
        (time,) = timed(lambda: model.fit(rows, batch_size=batch, verbose=0), 1)
        return [1e3 * total / time]

    def sample():
        (time,) = timed(lambda: model.generate(num, 0, steps=STEPS), 1)
        return [1e3 * num / time]

    model.fit(rows[: 2 * batch], batch_size=batch, verbose=0)
    if num:
        sample()
    place = _platform().replace("cuda", "gpu")
    return {"place": lambda: place, "train": train, "sample": sample}


if __name__ == "__main__":
    # Several workers share a GPU: none takes all of its memory at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    serve({"zoo": ours})
