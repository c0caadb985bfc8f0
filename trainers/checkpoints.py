"""Checkpoints of everything a training needs to go on exactly where it stopped.

Weights, optimizers, seeds and metrics are all Keras variables: one file holds the
values of all, and an epoch's shuffle follows from its number, so nothing else counts.
"""

import json
from pathlib import Path

import keras
import numpy as np

from zoo._saving import whole

NAME = "checkpoint.npz"


class Checkpoint(keras.callbacks.Callback):
    """Save the whole state at the end of each epoch, whole or not at all.

    Args:
        folder: Where to.
        recipe: What is followed; `restore` compares it.
    """

    def __init__(self, folder, recipe):
        super().__init__()
        self.path, self.recipe = Path(folder) / NAME, recipe

    def on_epoch_end(self, epoch, logs=None):
        arrays = {str(i): np.asarray(v) for i, v in enumerate(_state(self.model))}
        about = json.dumps({"epoch": epoch + 1, "recipe": self.recipe})
        with whole(self.path) as scratch, open(scratch, "wb") as file:
            np.savez(file, about=about, **arrays)


def restore(model, folder, recipe):
    """Put a compiled model back to its last checkpoint; return the epochs done.

    Raises:
        ValueError: The checkpoint follows another recipe, or is not readable.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        if about["recipe"] != recipe:
            keys = {*about["recipe"], *recipe}
            changed = [
                f"{k}: {about['recipe'].get(k)} there, {recipe.get(k)} asked for"
                for k in sorted(keys)
                if about["recipe"].get(k) != recipe.get(k)
            ]
            raise ValueError(
                f"{path} follows another recipe and cannot be resumed by this one. "
                + "; ".join(changed)
            )
        model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        for i, variable in enumerate(variables):
            variable.assign(file[str(i)])
    return about["epoch"]


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _state(model):
    return [keras.ops.convert_to_numpy(v) for v in _variables(model)]
