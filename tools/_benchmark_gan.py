"""DCGAN with its default sizes, batch 64, here and in plain PyTorch.

Both train the generator 64-128-64-1 and the critic 64-128-1 on 28×28 images, with the
losses of DCGAN by softplus and two Adam at 2e-4 and 0.5, without R1. The peer is the
textbook's loop over images in memory, in [-1, 1] and channels first; neither prints
progress. Keras' padding "same" is padding=1 for these kernels of 4 at stride 2.

Two things differ, of about the same cost: the textbook draws fakes once for both turns,
the zoo for each; the textbook's generator also takes gradients of the critic's weights.
"""

import contextlib
import dataclasses
import fnmatch
import math
import os
import shutil
import statistics
import subprocess
from functools import partial
from pathlib import Path

from zoo.tools import _benchmark
from zoo.tools._benchmark import Worker, installed, not_run, row, serve, take_turns
from zoo.tools._benchmark_scaling import _platform
from zoo.tools._benchmark_vae import pictures, timed

TITLE = "DCGAN 28×28, channels 128 and 64, batch 64, beside plain PyTorch"
PEER = "torch"
PLAIN = EAGER, COMPILED = "torch eager", "torch compiled"
XLA = "tensorflow XLA"  # Keras leaves it off on a CPU, unless asked for.
LATENT, WIDE, NARROW, SIDE, BATCH, LARGE = 64, 128, 64, 7, 64, 2_048
RATE, BETAS, REPEATS, NUM = 2e-4, (0.5, 0.999), 50, 64
EXAMPLES = 6_400  # Of one epoch, unless --examples says otherwise.
EPOCHS = {"cpu": 1, "gpu": 10}  # Of one turn.
# Command of a worker: what it measures, its unit, and how many times as fast as the
# better of eager and compiled PyTorch the best backend is at least.
LEAST = {
    "train": ("training", "images/s", 1.2),
    "generate": (f"generate({NUM}), warm", "ms", 1.5),
}
# nvidia-smi's name: TFLOP/s of dense bfloat16, as NVIDIA's data sheet of the chip says.
PEAKS = {"*H200": 989, "*H100 80GB HBM3": 989, "*A100*": 312, "*L4": 121}


@dataclasses.dataclass(frozen=True)
class Row(_benchmark.Row):
    """A line of PyTorch alone, or one whose `note` says why it has no number."""

    note: str = ""


def measure(setting, peak=None):
    """Return the rows: float32, then bfloat16; `peak` is the GPU's, in TFLOP/s."""
    chip, rows = gpu(), []
    place = "gpu" if chip else "cpu"
    asked = {"train": EPOCHS[place], "generate": REPEATS}
    names = (*PLAIN, *setting.backends)
    if place == "cpu" and "tensorflow" in names:
        names += (XLA,)
    answers, faults = contest(setting, place, names, asked)
    for command, (what, unit, least) in LEAST.items():
        rows += lines(what, unit, answers[command], faults, least)
    return rows + (on_gpu(setting, chip, peak) if chip else on_cpu(setting))


def on_gpu(setting, chip, peak):
    """Return the rows of bfloat16 on a GPU, the zoo's step compiled by XLA."""
    ours, rows = [name for name in setting.backends if name != "torch"], []
    known = (tera for name, tera in PEAKS.items() if fnmatch.fnmatch(chip, name))
    peak = peak or next(known, None)
    if ours and peak:
        with start(ours[0], steps=1) as worker:
            share = worker.ask("flops") / (1e12 * peak) * 100
    for batch in (BATCH, LARGE) if ours else ():
        names, asked = (*PLAIN, *ours), {"train": EPOCHS["gpu"]}
        answers, faults = contest(setting, "gpu", names, asked, batch, "bfloat16")
        speeds, what = answers["train"], f"training, bfloat16, batch {batch:,}"
        rows += lines(what, "images/s", speeds, faults)
        for name in (name for name in ours if name in speeds and peak):
            shares = [share * speed for speed in speeds[name]]
            rows.append(row(f"{what}, of the peak", "%", name, shares))
    why = f"not known: say --peak of {chip}"
    return rows + ([] if peak else [Row("of the peak", "%", "gpu", None, note=why)])


def on_cpu(setting):
    """Return the row of bfloat16 on a CPU that computes with it, and what is left."""
    what, unit, info = "training, bfloat16", "images/s", Path("/proc/cpuinfo")
    rows = [Row(f"{what}, XLA", unit, "gpu", None, note="not run: no GPU")]
    if not (info.is_file() and "bf16" in info.read_text("utf-8", "replace")):
        why = "not run: the CPU has no bfloat16"
        return [Row(what, unit, "cpu", None, note=why), *rows]
    if "tensorflow" in setting.backends:
        names, asked = (EAGER, "tensorflow"), {"train": EPOCHS["cpu"]}
        answers, faults = contest(setting, "cpu", names, asked, dtype="bfloat16")
        rows = lines(what, unit, answers["train"], faults) + rows
    return rows


def contest(setting, place, names, asked, batch=BATCH, dtype="float32"):
    """Have backends and PyTorch take turns at commands, each asked so many times.

    Return command to what `take_turns` returns, and name to why it takes no part: who
    is not on `place`, the CPU or the GPU, or cannot compile.
    """
    names = [name for name in names if name not in PLAIN or installed(PEER)]
    steps, workers, faults = max(1, setting.examples // BATCH), {}, {}
    with contextlib.ExitStack() as stack:
        for name in names:
            worker = start(name, steps=steps, batch=batch, dtype=dtype)
            workers[name] = stack.enter_context(worker)
            worker.tell("place")
        setting.tell(f"warm-up: {', '.join(workers)}, {dtype}")
        for name, worker in list(workers.items()):
            found = worker.hear()
            if found != place:
                faults[name] = f"not run: on the {found}, not the {place}"
                del workers[name]
        for command in asked:  # All compile side by side.
            for worker in workers.values():
                worker.tell(command, num=1)
            for name, worker in list(workers.items()):
                try:
                    worker.hear()
                except OSError as error:
                    if name != COMPILED:
                        raise
                    faults[name] = not_run(error)
                    del workers[name]
        return {
            command: take_turns(workers, command, setting, f"{command}, {dtype}", num=n)
            for command, n in asked.items()
        }, faults


def start(name, **arguments):
    """Return the worker of a backend or of PyTorch."""
    role, backend = (name, "torch") if name in PLAIN else ("zoo", name)
    if name == XLA:
        backend, arguments["jit"] = "tensorflow", True
    return Worker("zoo.tools._benchmark_gan", role, backend, **arguments)


def lines(what, unit, measured, faults, least=None):
    """Return the rows of one measure: PyTorch's, ours, and those without a number.

    Each of ours is compared with the better of PyTorch's; the best has the target.
    """
    better = max if unit.endswith("/s") else min
    medians = {name: statistics.median(values) for name, values in measured.items()}
    plain = [name for name in PLAIN if name in measured]
    ours = [name for name in measured if name not in plain]
    peer = measured[better(plain, key=medians.get)] if plain else None
    best = better(ours, key=medians.get, default=None)
    rows = [Row(what, unit, name, None, medians[name]) for name in plain]
    for name in ours:
        promise = least if name == best else None
        rows.append(row(what, unit, name, measured[name], peer, promise))
    return rows + [Row(what, unit, n, None, note=why) for n, why in faults.items()]


def gpu():
    """Return the name of the first NVIDIA GPU, None without one."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0] if not done.returncode and done.stdout else None


# What follows runs in the workers


def ours(steps, batch=BATCH, dtype="float32", jit="auto"):
    """Return the commands of the zoo, on the backend of the environment."""
    import keras

    import zoo

    if dtype != "float32":
        keras.config.set_dtype_policy(f"mixed_{dtype}")
    images, model = pictures(steps * batch), zoo.DCGAN(r1=0)
    names = [name for name, *_ in model.turns()]
    optimizers = {name: keras.optimizers.Adam(RATE, *BETAS) for name in names}
    model.compile(optimizers, jit_compile=jit)
    fit = partial(model.fit, images, batch_size=batch, verbose=0)
    return {
        "place": lambda: _platform().replace("cuda", "gpu"),
        "train": lambda num: speeds(lambda: fit(epochs=num), num * len(images)),
        "generate": lambda num: timed(lambda: model.generate(NUM), num),
        "flops": lambda: flops(model),
    }


def theirs(steps, batch=BATCH, dtype="float32", compiled=False):
    """Return the commands of plain PyTorch."""
    import torch
    from torch.nn.functional import softplus

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator, critic = (network.to(device) for network in networks())
    adam = partial(torch.optim.Adam, lr=RATE, betas=BETAS)
    of_generator, of_critic = adam(generator.parameters()), adam(critic.parameters())
    if compiled:
        generator, critic = torch.compile(generator), torch.compile(critic)
    precision = partial(torch.autocast, device, torch.bfloat16, dtype != "float32")
    images = torch.from_numpy(2 * pictures(steps * batch) - 1)
    images, total = images.reshape(-1, 1, 28, 28).to(device), len(images)

    def fit():
        generator.train()
        for index in torch.randperm(len(images), device=device).split(batch):
            with precision():
                fake = generator(torch.randn(batch, LATENT, device=device))
                real, made = critic(images[index]), critic(fake.detach())
                loss = (softplus(-real) + softplus(made)).mean()
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
            with precision():
                loss = softplus(-critic(fake)).mean()
            of_generator.zero_grad()
            loss.backward()
            of_generator.step()
        generator.eval()
        return loss.item()  # Which waits for a GPU.

    @torch.inference_mode()
    def generate():
        with precision():
            images = generator(torch.randn(NUM, LATENT, device=device)).float()
        return (0.5 * images + 0.5).permute(0, 2, 3, 1).cpu().numpy()

    return {
        "place": lambda: device.replace("cuda", "gpu"),
        "train": lambda num: speeds(lambda: [fit() for _ in range(num)], num * total),
        "generate": lambda num: timed(generate, num),
    }


def networks():
    """Return the generator and the critic as PyTorch's users write them."""
    from torch import nn

    generator = nn.Sequential(
        nn.Linear(LATENT, 2 * WIDE, bias=False),
        nn.BatchNorm1d(2 * WIDE, eps=1e-3),  # As Keras has it.
        nn.ReLU(inplace=True),
        nn.Linear(2 * WIDE, WIDE * SIDE**2, bias=False),
        nn.Unflatten(1, (WIDE, SIDE, SIDE)),
        nn.BatchNorm2d(WIDE, eps=1e-3),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(WIDE, NARROW, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(NARROW, eps=1e-3),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(NARROW, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )
    critic = nn.Sequential(
        nn.Conv2d(1, NARROW, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(NARROW, WIDE, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.ZeroPad2d((1, 2, 1, 2)),  # "same", of 7 pixels.
        nn.Conv2d(WIDE, 2 * WIDE, 4, stride=2),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Flatten(),
        nn.Linear(2 * WIDE * 4 * 4, 1),
        nn.Flatten(0),
    )
    return generator, critic


def flops(model):
    """Return the operations of a training step of a DCGAN without R1, for each image.

    2 for each of the `macs`: g in the generator and d in the critic, once forward, once
    backward for the weights and once for the inputs, which no first layer needs. The
    critic's turn: g forward; d forward and backward, for a real image and a fake one.
    The generator's: g forward and backward; d forward and backward to its inputs.
    """
    g, d = ([macs(x) for x in n.layers] for n in (model.generator, model.critic))
    first_g, first_d = (next(filter(None, costs)) for costs in (g, d))
    g, d = sum(g), sum(d)
    return 2 * (g + 2 * (3 * d - first_d) + (3 * g - first_g) + 2 * d)


def macs(layer):
    """Return the multiply-adds of a convolution or dense layer for one image.

    Each weight meets each place of the output, or of the input if transposed.
    """
    from keras.layers import Conv2DTranspose

    if not hasattr(layer, "kernel"):
        return 0
    at = layer.input if isinstance(layer, Conv2DTranspose) else layer.output
    return math.prod(layer.kernel.shape) * math.prod(at.shape[1:-1])


def speeds(function, images):
    """Return the images a second of one call, in a list."""
    return [1e3 * images / time for time in timed(function, 1)]


if __name__ == "__main__":
    # Several workers share a GPU: none takes all of its memory at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    serve({"zoo": ours, EAGER: theirs, COMPILED: partial(theirs, compiled=True)})
