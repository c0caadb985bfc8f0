"""A U-Net of channels 32, 64, 64 on 28×28, batch 64, here and in diffusers on PyTorch.

The same network, weight for weight: two residual blocks a level, attention at the
lowest, ten labels, 1.7 million parameters. Training: v-prediction on the cosine
schedule by Adam at 1e-3, images in memory, no progress shown. Sampling: DDIM in 50
steps at batch 16, diffusers by its own DDIMScheduler. Time to quality: the weights of
ddpm-mnist in both, 64 images; what diffusers' DDIM reaches in 50 steps, by Fréchet
distance of 2,000 samples to MNIST's test set, against the fewest steps of the zoo's
default solver that reach as much.
"""

import contextlib
import math
import os
import statistics
from functools import partial

from zoo.tools._benchmark import Row, Worker, installed, not_run, row, serve, take_turns
from zoo.tools._benchmark_gan import COMPILED, EAGER, PLAIN, XLA, lines
from zoo.tools._benchmark_gan import Row as Noted
from zoo.tools._benchmark_vae import pictures, timed

TITLE = "U-Net 28×28, channels 32, 64, 64, batch 64, beside diffusers"
PEER = "diffusers"
SIZES = {"channels": (32, 64, 64), "classes": 10}
BATCH, FEW, STEPS, RATE = 64, 16, 50, 1e-3
EXAMPLES = 640  # Of one epoch, unless --examples says otherwise.
PRESET, NUM, SAMPLES = "ddpm-mnist", 64, 2_000
CALLS, GROWTH = 1_000, 20.0  # MB that so many calls may leave behind.
LEAST, FASTER = 1.1, 5.0
TRIED = (4, 5, 6, 8, 10, 12, 15, 20, 30, 50)


def measure(setting):
    """Return the rows: training, sampling, time to quality, memory."""
    plain = PLAIN if installed(PEER) else ()
    names = [*plain, *setting.backends]
    if "tensorflow" in setting.backends:
        names.append(XLA)
    with contextlib.ExitStack() as stack:
        workers, faults = {}, {}
        for name in names:
            setting.tell(f"warm-up: {name}")
            worker = stack.enter_context(start(name, steps=setting.examples // BATCH))
            try:
                worker.ask("train")
                worker.ask("sample")
                workers[name] = worker
            except OSError as error:
                if name != COMPILED:
                    raise
                faults[name] = not_run(error)
        speeds = take_turns(workers, "train", setting, "training")
        samplers = {k: w for k, w in workers.items() if k != XLA}
        times = take_turns(samplers, "sample", setting, "sampling")
        rows = lines("training", "images/s", speeds, faults, LEAST)
        what = f"an evaluation, batch {FEW}"
        rows += lines(what, "ms", times, faults, LEAST)
        rows += quality(setting, samplers)
        for name in setting.backends[:1]:
            setting.tell(f"{CALLS:,} calls: {name}")
            grown = [workers[name].ask("memory")]
            rows.append(row(f"left by {CALLS:,} calls", "MB", name, grown, most=GROWTH))
    return rows


def quality(setting, workers):
    """Return the rows of the time that 64 images of one quality take."""
    what, ours = f"{NUM} images as good as DDIM's", setting.backends[0]
    missing = None if EAGER in workers else "not run: no diffusers"
    missing = missing or workers[ours].ask("ready")
    if missing:
        return [Noted(what, "ms", ours, None, note=missing)]
    setting.tell(f"quality of {STEPS} steps: {EAGER}")
    goal = workers[EAGER].ask("distance", steps=STEPS)
    for steps in TRIED:
        setting.tell(f"quality of {steps} steps: {ours}; to reach {goal:.3f}")
        found = workers[ours].ask("distance", steps=steps)
        if found <= goal:
            break
    else:
        note = f"not reached: {goal:.3f}, {found:.3f} in {steps} steps"
        return [Noted(what, "ms", ours, None, note=note)]
    both = {name: workers[name] for name in (EAGER, ours)}
    counts = {EAGER: STEPS, ours: steps}
    measured = {name: [] for name in both}
    for index in range(setting.rounds):
        for name, worker in both.items():
            setting.tell(f"{what}: round {index + 1} of {setting.rounds}, {name}")
            found = worker.ask("many", steps=counts[name])
            measured[name].append(statistics.median(found))
    what = f"{what}, {steps} steps for {STEPS}"
    return [
        Row(what, "ms", EAGER, None, statistics.median(measured[EAGER])),
        row(what, "ms", ours, measured[ours], measured[EAGER], FASTER),
    ]


def start(name, **arguments):
    """Return the worker of a backend or of diffusers."""
    role, backend = (name, "torch") if name in PLAIN else ("zoo", name)
    if name == XLA:
        backend, arguments["jit"] = "tensorflow", True
    return Worker("zoo.tools._benchmark_diffusion", role, backend, **arguments)


# What follows runs in the workers


def judged(images):
    """Return the Fréchet distance of images to MNIST's test set."""
    import numpy as np

    import zoo
    from zoo.metrics import frechet_distance
    from zoo.trainers.data import open_data

    judge = zoo.load("lenet-mnist")
    test = open_data("tfds:mnist", "test", (28, 28, 1))[np.arange(len(images))]
    return float(frechet_distance(judge.features(test), judge.features(images)))


def ready():
    """Say why the time to quality cannot be measured; None if it can."""
    from zoo import _registry
    from zoo._card import weights_of
    from zoo.trainers.data import DataError, open_data

    card = _registry.read(_registry.home() / PRESET)
    if not weights_of(card):
        return f"not run: {PRESET} has no weights"
    try:
        open_data("tfds:mnist", "test", (28, 28, 1))
    except (DataError, ImportError):
        return "not run: MNIST is not here"
    return None


def ours(steps, jit="auto"):
    """Return the commands of the zoo, on the backend of the environment."""
    import gc

    import keras
    import numpy as np

    import zoo

    rows = max(1, steps) * BATCH
    images, labels = pictures(rows), np.arange(rows) % 10
    model, trained = zoo.DDPM(**SIZES), []
    model.compile(keras.optimizers.Adam(RATE), jit_compile=jit)

    def preset():
        if not trained:
            trained.append(zoo.load(PRESET))
        return trained[0]

    def draw(num, steps):
        return preset().generate(num, 0, steps=steps, guidance=1.0)

    def memory():
        small = zoo.DDPM((8, 8, 1), channels=[8], blocks=1)
        for _ in range(50):
            small.generate(1, 0, steps=2)
        gc.collect()
        before = resident()
        for _ in range(CALLS):
            small.generate(1, 0, steps=2)
        gc.collect()
        return (resident() - before) / 1e6

    fit = partial(model.fit, images, labels, batch_size=BATCH, verbose=0)
    generate = partial(model.generate, FEW, 0, solver="ddim", steps=STEPS)
    return {
        "train": lambda: [1e3 * rows / t for t in timed(fit, 1)],
        "sample": lambda: [t / STEPS for t in timed(generate, 3)],
        "ready": ready,
        "distance": lambda steps: judged(draw(SAMPLES, steps)),
        "many": lambda steps: timed(lambda: draw(NUM, steps), 3),
        "memory": memory,
    }


def theirs(steps, compiled=False):
    """Return the commands of diffusers on PyTorch."""
    import torch

    import zoo
    from zoo.tools import _diffusers

    rows = max(1, steps) * BATCH
    images = torch.from_numpy(2 * pictures(rows) - 1).reshape(-1, 1, 28, 28)
    labels = torch.arange(rows) % 10
    model = zoo.DDPM(**SIZES)
    unet, plan = _diffusers.twin(model.get_config()), _diffusers.scheduler(model)
    adam, trained = torch.optim.Adam(unet.parameters(), lr=RATE), []
    network = torch.compile(unet) if compiled else unet

    def fit():
        unet.train()
        for index in torch.randperm(rows).split(BATCH):
            x, noise = images[index], torch.randn(BATCH, 1, 28, 28)
            steps = torch.randint(0, 1000, (BATCH,))
            target = plan.get_velocity(x, noise, steps)
            noisy = plan.add_noise(x, noise, steps)
            found = network(noisy, steps + 1, class_labels=labels[index]).sample
            loss = torch.mean((found - target) ** 2)
            adam.zero_grad()
            loss.backward()
            adam.step()
        unet.eval()

    def draw(network, plan, num, steps, patch=1):
        squares = _diffusers.sample(network, plan, num, steps, torch.arange(num) % 10)
        return _diffusers.images(squares.numpy(), patch)

    def preset(num, steps):
        if not trained:
            taught = zoo.load(PRESET)
            parts = _diffusers.copied(taught), _diffusers.scheduler(taught)
            trained.append((parts, taught.get_config()["patch"]))
        parts, patch = trained[0]
        return draw(*parts, num, steps, patch)

    return {
        "train": lambda: [1e3 * rows / t for t in timed(fit, 1)],
        "sample": lambda: [
            t / STEPS for t in timed(lambda: draw(network, plan, FEW, STEPS), 3)
        ],
        "distance": lambda steps: judged(preset(SAMPLES, steps)),
        "many": lambda steps: timed(lambda: preset(NUM, steps), 3),
    }


def resident():
    """Return the bytes of memory that this process holds, NaN where none says."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return math.nan


if __name__ == "__main__":
    serve({"zoo": ours, EAGER: theirs, COMPILED: partial(theirs, compiled=True)})
