"""Find the odd one out: ten detectors, each of which has seen one digit only.

python docs/anomaly_detection.py
python docs/anomaly_detection.py --digits 8 --epochs 10
"""

import time

import keras
import numpy as np
from absl import app, flags

import zoo
from zoo.metrics import auroc
from zoo.trainers.data import open_data

_DIGITS = flags.DEFINE_list("digits", list("0123456789"), "Usual digits, in turn.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Passes over one digit's images.")
_MANUAL = flags.DEFINE_string("manual_dir", None, "Folder of MNIST's own files.")


def detector(images, epochs, seed=0):
    """Return an autoencoder that knows the images, and little else."""
    keras.utils.set_random_seed(seed)
    model = zoo.Autoencoder(
        latent=16, hidden=[256, 128], activation="silu", corruption=0.3, components=1
    )
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(images, batch_size=64, epochs=epochs, verbose=0)
    return model


def main(argv):
    shape, start = (28, 28, 1), time.time()
    train = open_data("tfds:mnist", "train", shape, True, _MANUAL.value)
    test = open_data("tfds:mnist", "test", shape, True, _MANUAL.value)
    areas = []
    for digit in map(int, _DIGITS.value):
        model = detector(train.images[train.labels == digit], _EPOCHS.value)
        scores = model.score(test.images)  # High for what it knows.
        usual = test.labels == digit
        areas.append(auroc(scores[usual], scores[~usual]))
        print(f"trained on {digit}: AUROC {areas[-1]:.4f}", flush=True)
    print(
        f"Mean AUROC of {len(areas)} one-class detectors on the 10,000 test digits: "
        f"{np.mean(areas):.4f}, in {time.time() - start:.0f} s."
    )


if __name__ == "__main__":
    app.run(main)
