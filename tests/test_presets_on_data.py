"""What the trained presets do on real data."""

import os
import subprocess
import sys

import numpy as np
import pytest

import zoo
from zoo import _registry, metrics
from zoo._card import weights_of
from zoo.trainers.data import Data

# Minutes each, by `zoo verify NAME`; and gpt-python's are of one Python's library.
LONG = "ddpm-mnist", "dit-mnist", "wgan-gp-stacked-mnist", "t5-de-en", "gpt-python"
QUICK = [
    name
    for name in zoo.presets()
    if weights_of(_registry.read(_registry.home() / name)) and name not in LONG
]


@pytest.mark.slow
def test_the_numbers_on_the_cards(mnist):
    verify = [sys.executable, "-m", "zoo.tools.main", "verify", *QUICK, "--quick"]
    environment = {**os.environ, "ZOO_MANUAL_DIR": str(mnist.folder.parent)}
    environment.pop("XLA_FLAGS", None)  # CI compiles fast; this computes for minutes.
    done = subprocess.run(verify, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Verified {len(QUICK)} presets: every number is" in done.stdout


def test_digits_can_be_read(mnist):
    images, labels = mnist("test[:300]", labels=True)[np.arange(300)]
    judge = zoo.load("lenet-mnist")
    assert metrics.accuracy(judge.classify(images), labels) > 0.98
    for name in ("vae-mnist", "iwae-mnist", "ae-mnist"):
        again = zoo.load(name).reconstruct(images)
        assert metrics.accuracy(judge.classify(again), labels) > 0.94, name
    asked = np.arange(100) % 10
    drawn = zoo.load("cvae-mnist").generate(100, seed=5, labels=asked)
    assert metrics.accuracy(judge.classify(drawn), asked) > 0.95


def test_fine_tuning_improves_on_new_pictures(mnist):
    """Upside-down digits: a few steps must make them likelier."""
    images = mnist("train[:600]")[np.arange(600)][:, ::-1].copy()
    model = zoo.load("vae-mnist")
    before = model.elbo(images[500:], samples=5).mean()
    model.compile()
    model.fit(images[:500], batch_size=50, verbose=0)
    assert model.elbo(images[500:], samples=5).mean() > before + 5


def test_real_digits_are_likelier_than_noise(mnist):
    images = mnist("test[:50]")[np.arange(50)]
    noise = np.random.default_rng(0).permuted(images.reshape(50, -1), axis=1)
    model = zoo.load("vae-mnist")
    real = model.score(images, samples=20)
    assert real.min() > model.score(noise.reshape(images.shape), samples=20).max()


def test_data_keeps_its_rows(mnist):
    data = mnist("test[:20]", labels=True)
    assert isinstance(data, Data)
    few = data.only(data.labels == data.labels[0])
    assert set(few.labels) == {data.labels[0]}
