"""What a recipe may ask of the one train_step, each against a computation by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo._model import Model

START = 2.0, 0.5
ROWS = np.array([[1.0], [3.0], [-2.0], [0.5], [2.0], [-1.0]], "float32")


class Affine(Model):
    """y = a x + b by squared error: the gradients are 2 x (y - 1) and 2 (y - 1)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            self.add_weight((), keras.initializers.Constant(value)) for value in START
        )
        self.built = True

    def call(self, x):
        return self.a * x + self.b

    def objective(self, x):
        return ops.mean((self(x) - 1.0) ** 2)


def fit(optimizer, epochs=1):
    model = Affine()
    model.compile(optimizer)
    options = {"batch_size": 1, "shuffle": False, "verbose": 0}
    model.fit(ROWS, epochs=epochs, **options)
    return np.array([float(w) for w in model.get_weights()])


def gradient(weights, x):
    error = weights[0] * x + weights[1] - 1.0
    return np.array([2.0 * x * error, 2.0 * error])


def by_hand(change, rate=0.01):
    """Plain descent, the gradient changed before each step."""
    weights = np.array(START)
    for (x,) in ROWS:
        weights = weights - rate * change(gradient(weights, x))
    return weights


@pytest.mark.parametrize(
    ("option", "change"),
    [
        ({"clipnorm": 1.5}, lambda g: np.sign(g) * np.minimum(np.abs(g), 1.5)),
        ({"clipvalue": 1.5}, lambda g: np.clip(g, -1.5, 1.5)),
        (
            {"global_clipnorm": 1.5},
            lambda g: g * min(1.0, 1.5 / np.sqrt((g**2).sum())),
        ),
    ],
)
def test_clipping(option, change):
    found = fit(keras.optimizers.SGD(0.01, **option))
    np.testing.assert_allclose(found, by_hand(change), rtol=1e-5)
    assert np.abs(found - by_hand(lambda g: g)).max() > 1e-3


def test_gradient_accumulation():
    found = fit(keras.optimizers.SGD(0.01, gradient_accumulation_steps=3))
    weights = np.array(START)
    for part in (ROWS[:3, 0], ROWS[3:, 0]):  # Each at the weights before it.
        weights = weights - 0.01 * np.mean([gradient(weights, x) for x in part], axis=0)
    np.testing.assert_allclose(found, weights, rtol=1e-5)


def test_accumulated_steps_are_one_step_on_a_larger_batch():
    found = fit(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3))
    model = Affine()
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(ROWS, batch_size=3, shuffle=False, verbose=0)
    np.testing.assert_allclose(found, np.ravel(model.get_weights()), rtol=1e-5)


def test_moving_average():
    found = fit(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.9))
    weights, average = np.array(START), None
    for (x,) in ROWS:
        weights = weights - 0.01 * gradient(weights, x)
        average = weights if average is None else 0.9 * average + 0.1 * weights
    np.testing.assert_allclose(found, average, rtol=1e-5)
    assert np.abs(found - weights).max() > 1e-3


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_adam(kind):
    """Kingma & Ba (2015), section 2, last lines: the rate takes the corrections."""
    decay = 0.1 if kind == "AdamW" else 0.0  # Loshchilov & Hutter (2019).
    rates = keras.optimizers.schedules.PolynomialDecay(0.1, 6, 0.0)
    how = {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3, "weight_decay": decay or None}
    found = fit(getattr(keras.optimizers, kind)(rates, **how))
    weights, m, v = np.array(START), 0.0, 0.0
    for step, (x,) in enumerate(ROWS):
        rate = 0.1 * (1 - step / 6)
        g = gradient(weights, x)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        scale = np.sqrt(1 - 0.9 ** (step + 1)) / (1 - 0.8 ** (step + 1))
        weights = weights * (1 - rate * decay)
        weights = weights - rate * scale * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(found, weights, rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"learning_rate": 0.1},
        {"name": {"module": "keras.optimizers", "class_name": "SGD", "config": {}}},
        {"name": "sgd", "learning_rate": {"class_name": "Lambda", "config": {}}},
        "sgd",
    ],
)
def test_a_recipe_names_an_optimizer_and_builds_nothing_else(optimizer):
    model = Affine()
    vars(model)["recipe"] = {"optimizer": optimizer}
    with pytest.raises(ValueError, match="has a name and arguments that are numbers"):
        model.compile()


def test_any_optimizer_of_keras_by_its_name():
    for name in ("lamb", "Lamb", "adafactor", "SGD"):
        model = Affine()
        vars(model)["recipe"] = {"optimizer": {"name": name, "learning_rate": 0.25}}
        model.compile()
        assert type(model.optimizer).__name__.lower() == name.lower()
        assert float(model.optimizer.learning_rate) == 0.25
    for name in ("lamp", "optimizer ", "schedules", "get", "x" * 99):
        vars(model)["recipe"] = {"optimizer": {"name": name, "learning_rate": 0.25}}
        with pytest.raises(ValueError, match=f"Keras has no optimizer '{name[:50]}'"):
            model.compile()


class Half(Model):
    """Half-precision y = w x, whose loss is `size` times the mean of y."""

    def __init__(self, start, size=1.0, target=None):
        super().__init__()
        start = keras.initializers.Constant(start)
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=start)
        self.dense.build((None, 1))
        self.size, self.target = size, target
        self.built = True

    def call(self, x):
        return self.dense(x)

    def objective(self, x):
        y = self(x)
        if self.target is not None:
            return ops.mean((ops.cast(y, "float32") - self.target) ** 2)
        return self.size * ops.mean(ops.cast(y, "float32"))


@pytest.fixture
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield
    keras.config.set_dtype_policy("float32")


def step(model, optimizer, steps=1):
    model.compile(optimizer)
    data = np.ones((steps, 1), "float32")
    logs = model.fit(data, batch_size=1, verbose=0).history
    return float(model.get_weights()[0][0, 0]), logs


@pytest.mark.parametrize("policy", ["mixed_bfloat16"], indirect=True)
def test_bfloat16_computes_in_8_bits_and_learns_in_24(policy):
    # 1 + 2^-9 is 1 in bfloat16: y = 1, and the gradient of (y - 3)^2 is -4.
    found, logs = step(Half(1 + 2**-9, target=3.0), keras.optimizers.SGD(0.125))
    assert logs["loss"] == [4.0]
    assert found == 1 + 2**-9 + 0.5


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_float16_scales_the_loss_so_that_small_gradients_stay(policy):
    # A gradient of 2^-26 is zero in float16; scaled by 2^15 it is exact.
    found, logs = step(Half(0.0, 2.0**-26), keras.optimizers.SGD(2.0**20))
    assert logs["skipped"] == [0.0]
    assert found == -(2.0**-6)
    sgd = keras.optimizers.SGD(2.0**20)
    unscaled = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=1.0)
    assert step(Half(0.0, 2.0**-26), unscaled)[0] == 0.0


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_float16_halves_the_scale_when_gradients_overflow(policy):
    # Gradient 8 · 2^15 is infinite in float16; 8 · 2^12 is not: three steps are lost.
    model = Half(0.0, 8.0)
    found, logs = step(model, keras.optimizers.SGD(0.125), steps=5)
    assert found == -2.0
    assert float(ops.convert_to_numpy(model.optimizer.dynamic_scale)) == 2.0**12
    assert logs["skipped"] == [0.0]  # The optimizer's own affair.
