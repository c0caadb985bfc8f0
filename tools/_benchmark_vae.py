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

from zoo.tools._benchmark import Worker, cold, installed, row, serve, take_turns

TITLE = "MLP VAE 784-512-16-512-784, batch 128, beside pythae"
PEER = "pythae"
LATENT, HIDDEN, BATCH, RATE, EPOCHS, REPEATS, NUM = 16, 512, 128, 1e-3, 3, 50, 64
LEAST = {"jax": 2.5, "tensorflow": 1.2}  # times the images a second of pythae
MOST = 1.5  # s, cold `zoo generate` beyond the import of Keras and its backend


def measure(setting):
    """Return the rows of the table: training, sampling and the cold start."""
    with tempfile.TemporaryDirectory() as folder:
        preset = os.path.join(folder, "mlp-vae")
        speeds, times = warm(setting, preset)
        starts = cold_starts(setting, preset)
    peer, rows = speeds.get(PEER), []
    for name in setting.backends:
        least = LEAST.get(name)
        rows.append(row("training", "images/s", name, speeds[name], peer, least))
    for name in setting.backends:
        what = f"generate({NUM}), warm"
        rows.append(row(what, "ms", name, times[name], times.get(PEER)))
    for name in setting.backends:
        what = "zoo generate, cold, less import"
        rows.append(row(what, "s", name, starts[name], most=MOST))
    return rows


def warm(setting, preset):
    """Return images a second and milliseconds of everyone; save the model as a preset.

    The workers end here, so that they hold no memory when the cold start is measured.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in ([PEER] if installed(PEER) else []) + list(setting.backends):
            setting.tell(f"warm-up: {name}")
            role, backend = (PEER, "torch") if name == PEER else ("zoo", name)
            worker = Worker(
                "zoo.tools._benchmark_vae", role, backend, examples=setting.examples
            )
            workers[name] = stack.enter_context(worker)
            worker.ask("train", epochs=1)
            worker.ask("generate", repeats=3)
        workers[setting.backends[0]].ask("save", folder=preset)
        speeds = take_turns(workers, "train", setting, "training", epochs=EPOCHS)
        times = take_turns(workers, "generate", setting, "sampling", repeats=REPEATS)
    return speeds, times


def cold_starts(setting, preset):
    """Return, for each backend, the seconds of `zoo generate` in every round."""
    arguments = ["generate", preset, "--num", str(NUM), "--out", f"{preset}.png"]
    measured = {name: [] for name in setting.backends}
    for index in range(setting.rounds):
        for name in setting.backends:
            setting.tell(f"cold start: round {index + 1} of {setting.rounds}, {name}")
            program = "from zoo.tools.main import run; run()"
            measured[name].append(cold(program, arguments, name))
    return measured


def pictures(num):
    """Return float32 images with the ink of MNIST: a fifth of the pixels is grey."""
    import numpy as np

    generator = np.random.default_rng(0)
    ink = generator.random((num, 28, 28, 1), dtype="float32") < 0.19
    return ink * generator.random(ink.shape, dtype="float32")


def timed(function, repeats):
    """Return the milliseconds of each of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def ours(examples):
    """Return the commands of the zoo, on the backend of the environment."""
    import keras

    import zoo

    images = pictures(examples)
    model = zoo.VAE(latent=LATENT, hidden=[HIDDEN])
    model.compile()  # Adam at 1e-3.

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            speeds.append(examples / (time.perf_counter() - self.start))

    speeds = []

    def train(epochs):
        speeds.clear()
        model.fit(images, epochs=epochs, batch_size=BATCH, callbacks=[Clock()])
        return speeds

    return {
        "train": train,
        "generate": lambda repeats: timed(lambda: model.generate(NUM), repeats),
        "save": model.save_preset,
    }


def theirs(examples):
    """Return the commands of pythae: its own model, trainer and sampler."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    images = torch.from_numpy(pictures(examples)).reshape(-1, 1, 28, 28)
    data = BaseDataset(images, torch.zeros(examples))
    # Its default encoder and decoder have one hidden layer of 512 units.
    model = VAE(
        VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    )

    class Clock(TrainingCallback):
        def on_epoch_begin(self, training_config, **kwargs):
            self.start = time.perf_counter()

        def on_epoch_end(self, training_config, **kwargs):
            speeds.append(examples / (time.perf_counter() - self.start))

    speeds = []

    def train(epochs):
        speeds.clear()
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=epochs,
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
            )
            BaseTrainer(
                model, data, training_config=config, callbacks=[Clock()]
            ).train()
        return speeds

    sampler = NormalSampler(model)

    def generate(repeats):
        return timed(lambda: sampler.sample(NUM).cpu().numpy(), repeats)

    return {"train": train, "generate": generate}


if __name__ == "__main__":
    serve({"zoo": ours, PEER: theirs})
