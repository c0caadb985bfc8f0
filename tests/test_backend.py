"""The seam: gradients by hand, optimizers in teams, one result on all backends."""

import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo import _backend, _start
from zoo._backend import input_gradient, minimize
from zoo._model import Model


class Line(Model):
    """y = a x, learned by squared error, with a count that each step raises."""

    def __init__(self, start=2.0):
        super().__init__()
        self.a = self.add_weight((), keras.initializers.Constant(start))
        self.count = self.add_weight((), "zeros", trainable=False)
        self.built = True

    def call(self, x):
        return self.a * x

    def objective(self, x):
        self.count.assign_add(1.0)
        return ops.mean((self.a * x - 1.0) ** 2)


class Duel(Model):
    """Two players with batch normalisation in between."""

    def __init__(self):
        super().__init__()
        self.first = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        self.norm = keras.layers.BatchNormalization()
        self.norm.build((None, 2))
        self.second = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        self.built = True

    def call(self, x, training=False):
        return self.second(self.norm(self.first(x), training=training))

    def turns(self):
        return [
            *[("critic", self.second, lambda x: ops.mean(self(x, training=True)))] * 2,
            ("maker", self.first, lambda x: -ops.mean(self(x, training=True) ** 2)),
        ]


def test_minimize_takes_the_step_derived_by_hand():
    model = Line()
    model.compile(keras.optimizers.SGD(0.1))
    x = np.array([[1.0], [3.0]], "float32")
    loss, skipped = model.train_on_batch(x)
    assert skipped == 0
    assert float(loss) == pytest.approx((1 + 25) / 2)
    # d/da mean (a x - 1)^2 = mean 2 x (a x - 1) = (2 * 1 * 1 + 2 * 3 * 5) / 2 = 16
    assert float(model.a.numpy() if hasattr(model.a, "numpy") else model.a) == (
        pytest.approx(2.0 - 0.1 * 16)
    )


def test_a_step_keeps_what_the_loss_assigns():
    model = Line()
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(np.ones((6, 1), "float32"), batch_size=2, epochs=2, verbose=0)
    assert float(ops.convert_to_numpy(model.count)) == 6


def test_minimize_outside_a_step():
    if _backend.NAME == "jax":
        pytest.skip("JAX minimizes inside train_step, where the state is handed over")
    model = Line(start=0.0)
    optimizer = keras.optimizers.SGD(0.5)
    loss, sound = minimize(
        lambda: ops.square(model.a - 3.0), [model.a], optimizer, model
    )
    assert bool(sound)
    assert float(ops.convert_to_numpy(loss)) == pytest.approx(9.0)
    assert float(ops.convert_to_numpy(model.a)) == pytest.approx(3.0)


def test_input_gradient_is_right_and_differentiable():
    x = ops.convert_to_tensor(np.array([[1.0, -2.0]], "float32"))
    slope = input_gradient(lambda x: ops.sum(x**3), x)
    np.testing.assert_allclose(ops.convert_to_numpy(slope), [[3.0, 12.0]], rtol=1e-6)

    class Penalty(Line):
        def objective(self, x):  # slope = 2 a^2 x, mean slope^2 = 4 a^4 x^2
            slope = input_gradient(lambda x: ops.sum((self.a * x) ** 2), x)
            return ops.mean(slope**2)

    model = Penalty(start=1.0)
    model.compile(keras.optimizers.SGD(0.01))
    model.train_on_batch(np.ones((1, 1), "float32"))  # d/da 4 a^4 = 16
    assert float(ops.convert_to_numpy(model.a)) == pytest.approx(1 - 0.16, rel=1e-5)


def test_each_player_moves_its_own_weights_by_its_own_optimizer():
    keras.utils.set_random_seed(0)
    model = Duel()
    sgd = keras.optimizers.SGD
    model.compile({"critic": sgd(0.0), "maker": sgd(1.0)})
    still = [ops.convert_to_numpy(v) for v in model.second.trainable_variables]
    moved = [ops.convert_to_numpy(v) for v in model.first.trainable_variables]
    statistics = ops.convert_to_numpy(model.norm.moving_mean)
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    history = model.fit(x, batch_size=8, epochs=1, verbose=0).history
    assert set(history) == {"critic", "maker", "skipped"}
    for before, variable in zip(still, model.second.trainable_variables):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))
    assert any(
        np.abs(before - ops.convert_to_numpy(v)).max() > 1e-7
        for before, v in zip(moved, model.first.trainable_variables)
    )
    assert np.abs(ops.convert_to_numpy(model.norm.moving_mean) - statistics).max() > 0
    critic, maker = model.optimizer.members["critic"], model.optimizer.members["maker"]
    assert int(ops.convert_to_numpy(critic.iterations)) == 2
    assert int(ops.convert_to_numpy(maker.iterations)) == 1


def test_an_optimizer_for_each_player_or_an_error():
    with pytest.raises(ValueError, match="one optimizer for each of critic, maker"):
        Duel().compile({"critic": "adam"})


def test_players_in_float16_scale_their_own_losses():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = Duel()
        model.compile({"critic": keras.optimizers.SGD(0.1), "maker": "adam"})
        x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
        history = model.fit(x, batch_size=4, epochs=3, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["critic"]).all()
    assert np.isfinite(history["maker"]).all()
    for member in model.optimizer.members.values():
        assert isinstance(member, keras.optimizers.LossScaleOptimizer)


SAME = """
import sys
import keras
import numpy as np
from keras import ops

def fixed(draw):
    def drawn(shape, *args, seed=None, **kwargs):
        shape = tuple(int(n) for n in shape)
        values = getattr(np.random.default_rng(5), draw)(size=shape)
        return ops.convert_to_tensor(values.astype("float32"))
    return drawn

keras.random.normal, keras.random.uniform = fixed("normal"), fixed("uniform")
import zoo
model = zoo.VAE(image_shape=[8, 8, 1], latent=3, hidden=[16], samples=2)
generator = np.random.default_rng(0)
model.set_weights([generator.normal(0, 0.2, w.shape) for w in model.weights])
samples = model.generate(4, seed=7)
model.compile(keras.optimizers.Adam(1e-3))
images = generator.uniform(size=(20, 16, 8, 8, 1)).astype("float32")
losses = [float(model.train_on_batch(batch)[0]) for batch in images]
np.savez(sys.argv[1], samples=samples, losses=losses)
"""


def test_equal_losses_and_samples_on_every_backend(tmp_path):
    if _backend.NAME != "tensorflow":
        pytest.skip("runs all backends itself: once, under TensorFlow")
    results = {}
    for backend in _start.installed():
        path = tmp_path / f"{backend}.npz"
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run(
            [sys.executable, "-c", SAME, str(path)], env=environment, check=True
        )
        results[backend] = np.load(path)
    if len(results) < 2:
        pytest.skip("needs two installed backends to compare")
    first, *others = results.values()
    for other in others:
        np.testing.assert_allclose(other["losses"], first["losses"], rtol=1e-4)
        np.testing.assert_allclose(other["samples"], first["samples"], atol=1e-5)


@pytest.mark.skipif(_backend.NAME != "tensorflow", reason="others have one way")
def test_samples_are_compiled_by_xla_if_training_is(monkeypatch):
    model, asked = zoo.DCGAN((8, 8, 1), 4, (4,)), []
    monkeypatch.setattr(_backend.tf, "function", lambda fn, **k: asked.append(k) or fn)
    monkeypatch.setattr(_backend.tf.config, "list_physical_devices", lambda *_: [])
    for jit in (None, False, True):
        if jit is not None:
            model.compile(jit_compile=jit)
        _backend.compiled(model.sample, model)
    assert [options["jit_compile"] for options in asked] == [False, False, True]


@pytest.mark.skipif(_backend.NAME != "tensorflow", reason="oneDNN is TensorFlow's")
@pytest.mark.parametrize("asked", [None, "0"])
def test_tensorflow_computes_by_onednn_unless_told(asked):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("TensorFlow decides by itself on CPUs other than x86")
    code = "import zoo._backend, tensorflow.python.util._pywrap_util_port as port\n"
    code += "print(port.IsMklEnabled())"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": asked}
    if asked is None:
        del environment["TF_ENABLE_ONEDNN_OPTS"]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(asked is None)], done.stderr


def test_the_choice_of_a_backend(tmp_path):
    code = "import zoo._backend as b; print(b.NAME)"
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == _start.installed()[0], done.stderr


class Few(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = np.arange(4 * index, min(4 * index + 4, 10))
        return rows.astype("float32")[:, None], rows


class Hooked(Few):
    def on_epoch_end(self):
        pass


TENS = np.arange(10.0)[:, None], np.arange(10)  # Of float64, as Keras takes it too.


@pytest.mark.skipif(_backend.NAME != "tensorflow", reason="others have no such tuner")
@pytest.mark.parametrize("source", [TENS, (Few(), None)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_epoch_is_fed_whole_and_ends_at_once(source, shuffle):
    how = {"shuffle": shuffle, "epochs": 3}
    how |= {} if source[1] is None else {"batch_size": 4}
    data, y, rest = _backend.steady(zoo.VAE((8, 8, 1)), *source, how)
    assert y is None
    assert rest == {"epochs": 3, "shuffle": False}
    assert data.options().autotune.enabled is False
    assert data.cardinality() == 3
    orders = []
    for _ in range(8):
        batches = [(x.numpy(), y.numpy()) for x, y in data]
        assert sorted(len(x) for x, _ in batches) == [2, 4, 4]
        x, y = map(np.concatenate, zip(*batches))
        assert x.dtype == "float32"
        assert (x[:, 0] == y).all()
        assert sorted(y) == [*range(10)]
        orders.append((*y,))
    assert (len({*orders}) > 1) is shuffle
    assert shuffle or orders[0] == (*range(10),)


@pytest.mark.skipif(_backend.NAME != "tensorflow", reason="others have no such tuner")
@pytest.mark.parametrize(
    ("x", "y", "how"),
    [
        (*TENS, {"sample_weight": TENS[1]}),
        (*TENS, {"shuffle": "batch"}),
        (TENS[0], TENS[1][:9], {}),
        (TENS[0][:0], TENS[1][:0], {}),
        (Hooked(), None, {}),
        (Few(workers=2), None, {}),
    ],
)
def test_what_only_keras_knows_how_to_feed_is_left_to_it(x, y, how):
    found = _backend.steady(zoo.VAE((8, 8, 1)), x, y, how)
    assert all(a is b for a, b in zip(found, (x, y, how)))
