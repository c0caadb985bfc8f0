"""The MLP VAE 784-512-16-512-784, batch 128, here and in pythae.

Both train with Adam at 1e-3, draw one latent code a picture and show their progress
bars. Three things differ. The zoo draws the pixels black or white afresh at each step,
which pythae does not; pythae computes the cross-entropy from probabilities, the zoo
from logits; pythae keeps a copy of the best weights after an epoch.
"""

import contextlib
import os
import tempfile
import time

from zoo.tools._benchmark import (
    Worker,
    installed,
    row,
    seconds,
    serve,
    take_turns,
    versions,
)

TITLE = "MLP VAE 784-512-16-512-784, batch 128"
PEER = "pythae"
LATENT, HIDDEN, BATCH, RATE, EPOCHS, REPEATS, NUM = 16, 512, 128, 1e-3, 3, 50, 64
LEAST = {"jax": 2.5, "tensorflow": 1.2}  # times the images a second of pythae
MOST = 1.5  # s, cold `zoo generate` beyond the import of Keras and its backend

GENERATE = "from zoo.tools.main import run; run()"
IMPORT = "import keras"


def measure(setting):
    """Return the rows of the table: training, sampling and the cold start."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        preset = os.path.join(folder, "mlp-vae")
        workers = {}
        if installed(PEER):
            workers[PEER] = Worker(__name__, PEER, examples=setting.examples)
        for name in setting.backends:
            workers[name] = Worker(__name__, "zoo", name, examples=setting.examples)
        for name, worker in workers.items():
            setting.tell(f"warm up: {name}")
            stack.enter_context(worker)
            worker.ask("train", epochs=1)
            worker.ask("generate", repeats=1)
        workers[setting.backends[0]].ask("save", folder=preset)
        speeds = take_turns(workers, "train", setting, "training", epochs=EPOCHS)
        times = take_turns(workers, "generate", setting, "generate", repeats=REPEATS)
    # The workers are gone by now, and their memory with them.
        peer, rows = speeds.get(PEER), []
        for name in setting.backends:
            ours, least = speeds[name], LEAST.get(name)
            rows.append(row("training", "images/s", name, ours, peer, least))
        for name in setting.backends:
            what = f"generate({NUM}), warm"
            rows.append(row(what, "ms", name, times[name], times.get(PEER)))
        cold = cold_starts(setting, preset)
        for name in setting.backends:
            rows.append(row("zoo generate, cold", "s", name, cold[name], most=MOST))
    return rows
