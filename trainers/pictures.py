"""The pictures of a preset: grids of samples, and what its latent variables do."""

import keras
import numpy as np

from zoo._png import save_grid


def can_sample(model):
    """Say whether a model makes images."""
    return "generate" in model.verbs() and bool(model.image_shape)


def save_samples(model, path):
    """Write the grid of a preset, seed 0: 8 × 8, or one column for each label."""
    columns = model.classes or 8
    save_grid(path, model.generate(8 * columns, seed=0), columns)


def save_traversals(model, path, rows=10, columns=11, reach=2.5):
    """Write what each latent variable does: one row each, from -reach to reach.

    The others stay at zero. The rows are those variables whose posterior mean varies
    most over 1,000 samples of the model, most first.

    Args:
        model: An autoencoder with standard normal codes.
        path: PNG file to write.
        rows: Latent variables shown, at most.
        columns: Values of each.
        reach: Largest value, in standard deviations of the prior.
    """
    varying = model.encode(model.generate(1000, seed=0)).var(axis=0)
    chosen = np.argsort(-varying)[:rows]
    codes = np.zeros((len(chosen), columns, model.latent), "float32")
    for row, unit in enumerate(chosen):
        codes[row, :, unit] = np.linspace(-reach, reach, columns)
    save_grid(path, model.decode(codes.reshape(-1, model.latent)), columns)


PICTURES = {"samples.png": save_samples, "traversals.png": save_traversals}


class Grid(keras.callbacks.Callback):
    """Write a grid of samples from the same noise at the end of each epoch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        if can_sample(self.model):
            save_samples(self.model, self.folder / f"epoch_{epoch + 1:04d}.png")
