"""Two networks against each other: each loss by hand, noise, memory, and collapse."""

import csv
import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo._backend import compiled
from zoo._model import Model
from zoo._optimizers import averaged, averages
from zoo.adversarial.cyclegan import Pool
from zoo.trainers import checkpoints
from zoo.trainers.callbacks import CollapseWarning, Watch

pytestmark = pytest.mark.maths

SHAPE = 8, 8, 1
SIDES = np.s_[:4], np.s_[4:], np.s_[:, :4], np.s_[:, 4:]
NETS = {"image_shape": SHAPE, "latent": 4, "hidden": [4]}


def patterns(num):
    """Images of one bright side each, of four."""
    images = np.random.default_rng(0).uniform(0, 0.2, (num, *SHAPE))
    for number, image in enumerate(images):
        image[SIDES[number % 4]] += 0.7
    return images.astype("float32")


def build(cls, seed=0, **changes):
    keras.utils.set_random_seed(seed)
    return cls(**{**NETS, **changes})


def value(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def softplus(x):
    return np.logaddexp(0, x)


def linear(model, norm, seed=1):
    """Make the critic one of slope w everywhere, |w| = norm; return w."""
    w = np.random.default_rng(seed).normal(size=64).astype("float32")
    w *= norm / np.linalg.norm(w)
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(1, use_bias=False)
    outputs = ops.squeeze(dense(keras.layers.Flatten()(inputs)), -1)
    model.critic = keras.Model([inputs], outputs)
    dense.set_weights([w[:, None]])
    return w


def run(model, function, *images):
    """Return what a function of tensors makes of images, with the same draws always."""
    state = value(model.seed.state)
    found = value(compiled(function, model)(*map(ops.convert_to_tensor, images)))
    model.seed.state.assign(state)
    return found


def fakes(model, images):
    """Return the fakes that a loss on these images draws, as rows."""
    found = run(model, lambda images: model._fakes(images, None), images)
    return found.reshape(len(images), -1)


# What each loss is


def test_the_losses_of_dcgan_are_those_of_its_papers():
    model, images = build(zoo.DCGAN, r1=3.0, r1_every=2), patterns(6)
    w = linear(model, norm=0.8)
    real, fake = (2 * images - 1).reshape(6, -1) @ w, fakes(model, images) @ w
    expected = np.mean(softplus(-real) + softplus(fake)) + 3.0 / 2 * 0.8**2
    found = run(model, model.critic_loss, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = run(model, model.generator_loss, images)
    np.testing.assert_allclose(found, np.mean(softplus(-fake)), rtol=1e-5)


def test_r1_takes_every_nth_image_of_a_batch():
    model, images = build(zoo.DCGAN), patterns(7)
    inputs = keras.Input(SHAPE)
    model.critic = keras.Model([inputs], ops.sum(inputs**2, (1, 2, 3)) / 2)
    slopes = np.sum((2 * images - 1) ** 2, (1, 2, 3))  # The slope at x is x.
    losses = {}
    for model.r1, model.r1_every in ((0, 1), (0.1, 1), (0.1, 3)):
        losses[model.r1, model.r1_every] = run(model, model.critic_loss, images)
    for every in (1, 3):
        penalty = losses[0.1, every] - losses[0, 1]
        expected = 0.1 / 2 * slopes[::every].mean()
        np.testing.assert_allclose(penalty, expected, rtol=1e-4)


def test_the_losses_of_wgan_gp_are_those_of_its_paper():
    model, images = build(zoo.WGANGP, penalty=10.0, critic_turns=2), patterns(6)
    w = linear(model, norm=1.7)
    real, fake = (2 * images - 1).reshape(6, -1) @ w, fakes(model, images) @ w
    expected = fake.mean() - real.mean() + 10.0 * (1.7 - 1) ** 2
    found = run(model, model.critic_loss, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    fake = fakes(model, images[::2]) @ w  # One part of two.
    found = run(model, model.generator_loss, images)
    np.testing.assert_allclose(found, -fake.mean(), rtol=1e-4, atol=1e-6)


def test_the_turns_of_wgan_gp_divide_a_batch():
    model, seen = build(zoo.WGANGP, critic_turns=5, classes=20), []
    model.critic_loss = lambda *batch: seen.append([value(part) for part in batch])
    turns = model.turns()
    assert [name for name, _, _ in turns] == 5 * ["critic"] + ["generator"]
    assert all(layer is model.critic for _, layer, _ in turns[:5])
    assert turns[5][1] is model.generator
    rows = np.arange(20)
    for _, _, loss in turns[:5]:
        loss(np.broadcast_to(rows[:, None, None, None], (20, *SHAPE)), rows)
    assert [len(labels) for _, labels in seen] == 5 * [4]
    assert sorted(np.concatenate([labels for _, labels in seen])) == list(rows)
    for images, labels in seen:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    seen.clear()
    for _, _, loss in turns[:5]:  # Fewer rows than turns.
        loss(np.zeros((3, *SHAPE)), rows[:3])
    assert {int(x) for _, labels in seen for x in labels} == {0, 1, 2}
    assert all(len(labels) for _, labels in seen)


def test_the_losses_of_pix2pix_add_up():
    keras.utils.set_random_seed(0)
    sizes = {"hidden": (4,), "patch": (4,), "dropout": 0.0}
    model = zoo.Pix2Pix(SHAPE, **sizes, l1=7.0, mirror=False)

    def parts(x, y):
        fake = model.generator(2 * x - 1)
        ends = [ops.concatenate([2 * x - 1, end], -1) for end in (fake, 2 * y - 1)]
        losses = model.generator_loss(x, y), model.critic_loss(x, y)
        return *losses, fake, *map(model.critic, ends)

    x, y = patterns(4), 1 - patterns(4)
    found = compiled(parts, model)(*map(ops.convert_to_tensor, (x, y)))
    generator, critic, fake, fooled, true = map(value, found)
    assert true.shape == (4, 4, 4, 1)  # One number for each patch.
    expected = softplus(-fooled).mean() + 7.0 * np.abs(2 * y - 1 - fake).mean()
    np.testing.assert_allclose(generator, expected, rtol=1e-5)
    expected = (softplus(-true) + softplus(fooled)).mean() / 2
    np.testing.assert_allclose(critic, expected, rtol=1e-5)


@pytest.mark.parametrize("cls", [zoo.Pix2Pix, zoo.CycleGAN])
def test_half_of_the_pairs_are_mirrored_both_sides_alike(cls):
    images = patterns(64)
    for mirror in (True, False):
        model = cls(SHAPE, hidden=(4,), patch=(4,), mirror=mirror)
        pair = compiled(lambda x, m=model: m._pair(x, 1.0 - x), model)
        first, second = map(value, pair(ops.convert_to_tensor(images)))
        np.testing.assert_allclose(first, -second, atol=1e-6)
        kept = np.isclose(first, 2 * images - 1, atol=1e-6).all((1, 2, 3))
        turned = np.isclose(first, 2 * images[:, :, ::-1] - 1, atol=1e-6)
        assert (kept ^ turned.all((1, 2, 3))).all()
        assert (16 < kept.sum() < 48) if mirror else kept.all()


def test_dropout_is_for_training_alone():
    keras.utils.set_random_seed(0)
    model, images = zoo.Pix2Pix(SHAPE, hidden=(4, 4), patch=(4,)), patterns(4)
    again = model.translate(images)
    np.testing.assert_array_equal(model.translate(images), again)
    assert again.shape == images.shape
    assert again.min() >= 0
    assert again.max() <= 1
    train = compiled(lambda x: model(x, training=True), model)
    trained = value(train(ops.convert_to_tensor(images)))
    assert np.abs(trained - again).max() > 1e-4


@pytest.mark.parametrize(
    ("cls", "changes", "text"),
    [
        ("DCGAN", {"image_shape": (9, 8, 1)}, "for images of 9×8"),
        (
            "WGANGP",
            {"image_shape": (8, 12, 1), "hidden": (4, 4, 4)},
            "halves the image",
        ),
        ("DCGAN", {"hidden": ()}, "hidden names one layer or more"),
        ("WGANGP", {"latent": 0}, "latent is 1 or more"),
        ("DCGAN", {"r1": -1.0}, "r1 is 0 or more and r1_every 1 or more"),
        ("WGANGP", {"critic_turns": 0}, "critic_turns 1 to 100"),
        ("Pix2Pix", {"image_shape": (12, 8, 1), "hidden": (4, 4, 4)}, "multiples of 8"),
        ("CycleGAN", {"image_shape": (8, 6, 1), "hidden": (4, 4, 4)}, "multiples of 4"),
        ("CycleGAN", {"image_shape": SHAPE, "pool": 0}, "pool 1 to 1,000"),
    ],
)
def test_sizes_that_cannot_be_are_refused(cls, changes, text):
    own = NETS if "GAN" in cls and cls != "CycleGAN" else {"patch": (4,)}
    with pytest.raises(ValueError, match=text):
        getattr(zoo, cls)(**{**own, **changes})


# Noise and what is made of it


@pytest.fixture(scope="module")
def plain():
    return build(zoo.DCGAN)


@pytest.fixture(scope="module")
def labelled():
    return build(zoo.DCGAN, classes=3)


@pytest.mark.parametrize("most", [0.3, 1.0, 2.5])
def test_truncated_noise_is_the_truncated_normal(plain, most):
    z = plain.noise(5000, seed=0, truncation=most)
    assert np.abs(z).max() <= most
    cumulative = [0.5 * math.erf(x / math.sqrt(2)) for x in np.sort(z, axis=None)]
    whole = math.erf(most / math.sqrt(2))
    expected = np.array(cumulative) / whole + 0.5
    steps = np.arange(1, z.size + 1) / z.size
    assert np.abs(expected - steps).max() < 1.63 / math.sqrt(z.size)  # KS, at 1 %.
    np.testing.assert_array_equal(z[:3], plain.noise(3, seed=0, truncation=most))
    # Each number keeps its rank, so a seed shows the same subject.
    order = np.argsort(plain.noise(5000, seed=0)[:, 0])
    assert (np.diff(z[order, 0]) >= 0).all()


def test_no_truncation_is_a_wide_one(plain):
    wide = plain.noise(5000, seed=0, truncation=8)
    np.testing.assert_allclose(plain.noise(5000, seed=0), wide, atol=1e-3)


@pytest.mark.parametrize("most", [0, 0.001, -1.0, float("nan"), "0.5", True, [1.0]])
def test_a_wrong_truncation_is_refused(plain, most):
    with pytest.raises(ValueError, match="truncation is 0.01 or more, or None"):
        plain.generate(2, truncation=most)


def test_less_noise_gives_less_varied_images(plain):
    spreads = [
        plain.generate(64, seed=0, truncation=most).std(axis=0).mean()
        for most in (0.1, 0.5, None)
    ]
    assert spreads[0] < 0.5 * spreads[1] < 0.5 * spreads[2]


def test_arcs_end_at_the_samples_of_their_codes(plain):
    arcs = plain.interpolate(steps=3, num=2, seed=5)
    assert arcs.shape == (2, 3, *SHAPE)
    ends = plain.generate(4, seed=5)
    np.testing.assert_allclose(arcs[:, 0], ends[:2], atol=1e-5)
    np.testing.assert_allclose(arcs[:, 2], ends[2:], atol=1e-5)
    for steps, num in ((1, 2), (3, 0)):
        with pytest.raises(ValueError, match="2 steps or more on 1 arc or more"):
            plain.interpolate(steps, num)
    with pytest.raises(ValueError, match="no condition 'labels'"):
        plain.interpolate(3, 1, labels=0)


def test_arcs_keep_their_label(labelled):
    arcs = labelled.interpolate(steps=2, num=2, seed=5, labels=[2, 1])
    ends = labelled.generate(4, seed=5, labels=[2, 1, 2, 1])
    np.testing.assert_allclose(arcs[:, 0], ends[:2], atol=1e-5)
    np.testing.assert_allclose(arcs[:, 1], ends[2:], atol=1e-5)


def test_the_critic_hears_labels_exactly_where_there_are_some(plain, labelled):
    images = patterns(4)
    assert plain.judge(images).shape == (4,)
    with pytest.raises(ValueError, match="judge of this DCGAN takes images"):
        plain.judge(images, [0, 1, 2, 0])
    with pytest.raises(ValueError, match="takes images and labels"):
        labelled.judge(images)
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        labelled.judge(images, [0, 1, 2, 3])
    first, second = labelled.judge(images, 0), labelled.judge(images, 1)
    assert np.abs(first - second).min() > 1e-6
    np.testing.assert_allclose(labelled.judge(images, [0, 0, 1, 1])[2:], second[2:])


# What CycleGAN remembers


def test_a_pool_fills_and_then_swaps_half():
    pool, seed = Pool(200, (1, 1, 1)), keras.random.SeedGenerator(0)
    values = np.linspace(-1, 1, 400, dtype="float32").reshape(2, 200, 1, 1, 1)
    first, second = (ops.convert_to_tensor(part) for part in values)
    np.testing.assert_array_equal(value(pool.swap(first, seed)), values[0])
    np.testing.assert_array_equal(np.sort(np.ravel(value(pool.state))), values[0].flat)
    given = value(pool.swap(second, seed))
    assert 0.4 < np.isin(given, values[0]).mean() < 0.6
    after = np.concatenate([given, value(pool.state)])  # Nothing is lost or doubled.
    np.testing.assert_array_equal(np.sort(after, axis=None), values.flat)


def test_a_pool_is_in_checkpoints_and_in_no_preset(tmp_path):
    def small():
        keras.utils.set_random_seed(0)
        model = zoo.CycleGAN(
            (4, 4, 1), hidden=(4,), blocks=0, patch=(4,), identity=0.0, pool=6
        )
        model.compile(dict.fromkeys(("critic", "generator"), "sgd"))
        return model

    model = small()
    pools = model.first_pool.state, model.second_pool.state
    for pool in pools:
        assert any(pool is v for v in model.variables)
        assert not any(pool is v for v in model.weights)
    images = np.random.default_rng(0).uniform(size=(2, 4, 4, 4, 1)).astype("float32")
    saving = checkpoints.Checkpoint(tmp_path, {}, None)
    model.fit(*images, batch_size=4, verbose=0, callbacks=[saving])
    for pool in pools:
        assert np.count_nonzero(value(pool)[:, 0, 0, 0] <= 1) == 4

    other = small()
    assert checkpoints.restore(other, tmp_path, {})[0] == 1
    for one, same in zip(model.variables, other.variables):
        np.testing.assert_array_equal(value(one), value(same))

    model.save_preset(tmp_path / "preset")
    assert b"pool" not in (tmp_path / "preset" / "model.weights.h5").read_bytes()
    fresh = zoo.load(tmp_path / "preset")
    assert (value(fresh.first_pool.state) == 2).all()
    for one, same in zip(model.get_weights(), fresh.get_weights()):
        np.testing.assert_array_equal(one, same)


# Whether training goes well


class Nearest:
    """A judge that knows the four patterns."""

    def features(self, images):
        return images.reshape(len(images), -1)

    def classify(self, images):
        middles = np.stack([patterns(40)[side::4].mean(0) for side in range(4)])
        return -((images[:, None] - middles) ** 2).sum((2, 3, 4))


class Look(keras.callbacks.Callback):
    """Compare, at each end of an epoch, weights within and around `averaged`."""

    def on_epoch_end(self, epoch, logs=None):
        pairs = averages(self.model.optimizer)
        self.before = self.model.get_weights()
        with averaged(self.model):
            for weight, average in pairs:
                np.testing.assert_array_equal(value(weight), value(average))
            assert any((value(w) != b).any() for w, b in zip(*self.both()))
        self.same()
        with pytest.raises(KeyError), averaged(self.model):
            raise KeyError
        self.same()

    def both(self):
        return self.model.weights, self.before

    def same(self):
        for weight, before in zip(*self.both()):
            np.testing.assert_array_equal(value(weight), before)


def train(seed, faster, r1, callbacks):
    """Fit a DCGAN, its generator so many times faster than the critic."""
    model = build(zoo.DCGAN, seed, hidden=[16], r1=r1)
    adam = {"name": "adam", "learning_rate": 0.02, "beta_1": 0.5}
    kept = {"use_ema": True, "ema_momentum": 0.9}
    fast = {**adam, "learning_rate": 0.02 * faster, **kept}
    vars(model)["recipe"] = {"optimizer": {"critic": adam, "generator": fast}}
    history = model.fit(
        patterns(256), batch_size=16, epochs=8, verbose=0, callbacks=callbacks
    )
    return model, history.history


def watch():
    return Watch(patterns(256), judge=Nearest(), num=128, patience=2)


def test_a_healthy_training_is_watched_in_silence_and_keeps_averages(tmp_path):
    watching, log = watch(), keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    model, history = train(0, 1, 1.0, [watching, log, Look()])
    assert 0.8 < history["diversity"][-1] < 1.4
    assert history["balance"][-1] < 0.95
    assert history["modes"][-1] == 4
    assert len(watching.history["gap"]) == 8
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name in ("diversity", "balance", "modes"):
        assert history[name] == watching.history[name]
        assert [float(row[name]) for row in rows] == history[name]

    pairs = averages(model.optimizer)
    assert len(pairs) == len(model.generator.trainable_variables)
    model.save_preset(tmp_path / "preset")
    saved = zoo.load(tmp_path / "preset")
    for (_, average), weight in zip(pairs, saved.generator.trainable_variables):
        np.testing.assert_array_equal(value(average), value(weight))


def test_a_collapse_is_said_once_for_each_sign_of_it():
    watching = watch()
    with pytest.warns(CollapseWarning) as said:
        train(0, 50, 0.0, [watching])
    assert set(watching.said) <= {"diversity", "balance", "modes"}
    said = [w for w in said if w.category is CollapseWarning]
    assert len(said) == len(watching.said)
    for warning in said:
        assert "Epoch " in str(warning.message)
        assert "larger r1 or penalty" in str(warning.message)


def test_weights_without_averages_stay():
    model = build(zoo.DCGAN)
    before = model.get_weights()
    with averaged(model):  # Not compiled.
        pass
    adam = keras.optimizers.Adam(use_ema=True)
    model.compile({"critic": "sgd", "generator": adam})
    with averaged(model):  # No step yet.
        for one, same in zip(before, model.get_weights()):
            np.testing.assert_array_equal(one, same)


class Given(Model):
    """Samples are the next of a list; the critic answers their mean."""

    image_shape = SHAPE
    critic = None

    def __init__(self, classes=None):
        super().__init__()
        self.classes = classes
        self.labels = []

    def noise(self, num, seed=None):
        return np.zeros((num, 1))

    def generate(self, num=1, seed=None, labels=None):
        self.labels.append(labels)
        assert len(self.samples[0]) == num
        return self.samples.pop(0)

    def judge(self, images, labels=None):
        return images.mean((1, 2, 3))


def watched(model, samples, watching):
    """Return what a Watch says and keeps of epochs of given samples."""
    vars(model)["samples"] = list(samples)
    watching.set_model(model)
    watching.on_train_begin()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in range(len(samples)):
            logs = {}
            watching.on_epoch_end(epoch, logs)
            assert "gap" not in logs
            assert (
                logs.items() <= {k: v[-1] for k, v in watching.history.items()}.items()
            )
    return [str(warning.message) for warning in said], watching.history


def test_what_the_numbers_of_a_watch_are():
    real = patterns(40)
    darker = 0.5 * (real - real.mean(0)) + real.mean(0) - 0.05
    two = np.concatenate([real[::4], real[1::4]] * 2)
    said, found = watched(Given(), [real, darker, two], Watch(real, judge=Nearest()))
    assert not said
    np.testing.assert_allclose(found["diversity"][:2], [1, 0.5], rtol=1e-5)
    answers = real.mean((1, 2, 3)), darker.mean((1, 2, 3))
    gap = answers[0].mean() - answers[1].mean()
    pooled = np.sqrt((answers[0].var() + answers[1].var()) / 2)
    np.testing.assert_allclose(found["gap"][:2], [0, gap / pooled], atol=1e-3)
    middle = (answers[0].mean() + answers[1].mean()) / 2
    right = (np.mean(answers[0] > middle) + np.mean(answers[1] < middle)) / 2
    assert found["balance"][1] == right
    assert found["modes"] == [4, 4, 2]
    bytes_ = Watch((255 * real).round().astype("uint8"))
    found = watched(Given(), [real], bytes_)[1]
    np.testing.assert_allclose(found["diversity"], 1, rtol=1e-2)
    assert "modes" not in found


def test_a_collapse_is_said_when_it_lasts_and_is_no_start():
    real = patterns(40)
    one = np.broadcast_to(real[:1] - 0.3, real.shape)
    rising = [share * real for share in (0.05, 0.1, 0.2, 0.25, 0.29)]
    watching = Watch(real, judge=Nearest(), patience=2)
    assert not watched(Given(), [*rising, real, one, real, one], watching)[0]
    said = watched(Given(), [real, one, one, one, real, one, one], watching)[0]
    assert len(said) == 3
    assert sum("less than 0.3" in text for text in said) == 1
    assert sum("1 of the 4 classes" in text for text in said) == 1
    assert sum("right about all of 80 images" in text for text in said) == 1
    assert all(text.startswith("Epoch 3: ") for text in said)


def test_samples_get_the_labels_of_the_real_images():
    real, labels = patterns(6), np.arange(6)
    model = Given(classes=6)
    watching = Watch(real, labels, num=4)
    assert not watched(model, [real[:4]], watching)[0]
    assert len(set(model.labels[0])) == 4
    np.testing.assert_array_equal(watching.images, real[model.labels[0]])
    assert model.labels[0].dtype == "int32"


@pytest.mark.parametrize(
    ("model", "args", "text"),
    [
        (lambda: Given(), [patterns(4)[:, :4]], "images have the shape"),
        (lambda: Given(), [patterns(1)], "two differ; of 1 none do"),
        (lambda: Given(), [np.full((3, *SHAPE), 0.3)], "two differ; of 3 none do"),
        (
            lambda: Given(),
            [patterns(4), [0, 1, 2, 3]],
            "Watch of this Given takes images",
        ),
        (lambda: Given(3), [patterns(4)], "takes images and labels"),
        (lambda: Given(3), [patterns(4), [0, 1, 2, 3]], "whole numbers from 0 to 2"),
        (
            lambda: zoo.VAE(SHAPE, 2, [4]),
            [patterns(4)],
            "models that generate and judge",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(model, args, text):
    watching = Watch(*args)
    watching.set_model(model())
    with pytest.raises(ValueError, match=text):
        watching.on_train_begin()
    with pytest.raises(ValueError, match="num is 2 or more and patience 1 or more"):
        Watch(*args, num=1)
