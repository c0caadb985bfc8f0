"""What denoisers promise: each loss by hand, guidance, the bound, and their verbs."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from test_contract import SMALL, build

import zoo
from zoo._saving import places
from zoo.diffusion import solvers
from zoo.diffusion._denoiser import IMAGE_OF, TARGET
from zoo.diffusion._unet import fold, unfold
from zoo.diffusion.consistency import ConsistencyModel
from zoo.diffusion.schedules import SCHEDULES, times
from zoo.layers.attention import SelfAttention
from zoo.layers.embedding import TimeEmbedding
from zoo.layers.normalization import GroupNorm

pytestmark = pytest.mark.maths

SHAPE = 8, 8, 1
SIZES = {"image_shape": SHAPE, "channels": [8], "blocks": 1, "patch": 2}


def value(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def tensor(array):
    return ops.convert_to_tensor(np.asarray(array, "float32"))


def rows(num, seed=0):
    images = np.random.default_rng(seed).random((num, *SHAPE))
    return images.astype("float32")


def awake(model, seed=0):
    """Give a model weights that are nowhere zero, so that it is no identity."""
    draw = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.2 * draw.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def digits():
    keras.utils.set_random_seed(0)
    model = awake(zoo.DDPM(**SIZES, classes=3))
    model.steps = 4  # Of solvers: fewer to compile.
    return model


# The parts


def test_group_normalisation_is_that_of_keras():
    x = np.random.default_rng(0).normal(2, 3, (2, 5, 4, 12)).astype("float32")
    ours, theirs = GroupNorm(4), keras.layers.GroupNormalization(4, epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 12))
        layer.beta.assign(np.linspace(-1, 1, 12))
    expected = value(theirs(x))
    np.testing.assert_allclose(value(ours(x)), expected, atol=1e-5)
    both = np.random.default_rng(1).normal(size=(2, 24)).astype("float32")
    scale, shift = (part[:, None, None] for part in np.split(both, 2, axis=1))
    found = value(ours(x, tensor(both)))
    np.testing.assert_allclose(found, expected * (1 + scale) + shift, atol=1e-5)
    with pytest.raises(ValueError, match="groups divide the channels; 5 and 12"):
        GroupNorm(5)(x)


def test_attention_is_softmax_of_products():
    keras.utils.set_random_seed(0)
    layer = SelfAttention(2)
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")
    found = value(layer(x))
    qkv = value(layer.qkv(x)).reshape(3, 5, 3, 2, 4)
    query, key, values = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    logits = query @ key.transpose(0, 1, 3, 2) / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = (weights @ values).transpose(0, 2, 1, 3).reshape(3, 5, 8)
    np.testing.assert_allclose(found, value(layer.out(mixed)), atol=1e-5)
    with pytest.raises(ValueError, match="heads divide the width; 3 and 8"):
        SelfAttention(3)(x)


def test_squares_are_folded_and_back():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype("float32")
    folded = value(fold(tensor(x), 2))
    np.testing.assert_array_equal(folded[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(value(unfold(folded, 2, (4, 6, 3))), x)


def test_times_are_told_apart():
    found = value(TimeEmbedding(64)(tensor(np.linspace(0, 1, 101))))
    assert found.shape == (101, 64)
    gaps = np.linalg.norm(found[:, None] - found[None], axis=-1)
    assert gaps[~np.eye(101, dtype=bool)].min() > 0.5


@pytest.mark.parametrize("name", ["DDPM", "DiT"])
def test_half_precision_keeps_times_and_noise_apart(name):
    """Half of float32 would see one time in these two, and no noise."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, seen = awake(build(name)), []
        inner = model.network.call
        model.network.call = lambda inputs, **kw: (
            seen.append([str(x.dtype) for x in inputs]) or inner(inputs, **kw)
        )
        x = tensor(np.ones((2, *model.image_shape)))
        found = value(model(x, tensor([0.7, 0.7004])))
    finally:
        keras.config.set_dtype_policy("float32")
    assert all("float32" in dtype for dtype in seen[0])
    assert np.abs(found[0] - found[1]).max() > 1e-3
    kinds = {layer.compute_dtype for layer in model.network.layers}
    assert "bfloat16" in kinds


@pytest.mark.parametrize("prediction", IMAGE_OF)
def test_a_prediction_tells_the_image(prediction):
    schedule = SCHEDULES["straight" if prediction == "velocity" else "cosine"]
    image, noise = np.random.default_rng(0).normal(size=(2, 9))
    alpha, sigma = schedule(np.linspace(0.1, 0.9, 9))
    target = TARGET[prediction](image, noise, alpha, sigma)
    found = IMAGE_OF[prediction](alpha * image + sigma * noise, target, alpha, sigma)
    np.testing.assert_allclose(found, image, atol=1e-12)


# What is learned


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_min_snr_weighs_the_error_of_the_image(prediction):
    """Whatever is predicted, the loss is that of the image it tells, weighted."""
    model = zoo.DDPM(**SIZES, prediction=prediction, min_snr=5.0)
    seen = {}

    def belief(x, t, labels, training):  # The image is 0.3 everywhere, it says.
        alpha, sigma = model._marginals(t)
        seen["snr"] = (alpha / sigma) ** 2
        noise = (x - 0.3 * alpha) / sigma
        return TARGET[prediction](0.3 + 0 * x, noise, alpha, sigma)

    model.call = belief
    images = rows(200)
    found = float(value(model.objective(tensor(images))))
    error = np.mean((2 * images - 1 - 0.3) ** 2, axis=(1, 2, 3))
    snr = value(seen["snr"]).reshape(-1)
    assert len(np.unique(snr)) == 200  # A time for each row.
    expected = np.mean(np.minimum(snr, 5) * error)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_labels_are_dropped_at_their_rate():
    model = zoo.DDPM(**SIZES, classes=3, drop=0.25)
    labels = ops.convert_to_tensor(np.arange(4000) % 3)
    images = np.zeros((4000, *SHAPE), "float32")
    found = value(model._drawn(tensor(images), labels)[2])
    dropped = found == 3
    assert abs(dropped.mean() - 0.25) < 0.03
    np.testing.assert_array_equal(found[~dropped], (np.arange(4000) % 3)[~dropped])


def test_a_flow_learns_the_velocity_mostly_in_the_middle():
    model, seen = zoo.DiT(SHAPE, width=8, depth=1, heads=1), {}

    def nothing(x, t, labels, training):
        seen["t"] = t
        return 0 * x

    model.call = nothing
    images = rows(4000)
    found = float(value(model.objective(tensor(images))))
    np.testing.assert_allclose(found, 1 + np.mean((2 * images - 1) ** 2), rtol=0.02)
    share = np.mean(np.abs(value(seen["t"]) - 0.5) < 0.25)
    # P(|normal| < log 3), which the logistic function takes to 0.25 … 0.75.
    assert abs(share - math.erf(math.log(3) / math.sqrt(2))) < 0.01


def test_consistency_targets_are_steps_of_ddim():
    model = ConsistencyModel(**SIZES, segments=4, grid=16)
    draw = np.random.default_rng(0)
    image, noise, guess = draw.normal(size=(3, 5))
    for place in range(16):
        now, before, end = (place + 1) / 16, place / 16, place // 4 / 4
        arrays = (tensor([t]) for t in (now, before, end))
        share = float(value(model.share(*arrays))[0])
        target = guess + share * (image - guess)
        alpha, sigma = model.schedule(now)
        x = alpha * image + sigma * noise

        def jump(x, start, stop, found):
            a, b = solvers.ddim_table(model.schedule, np.array([start, stop])).mix[
                0, :2
            ]
            return a * x + b * found

        there = jump(x, now, before, image)
        there = jump(there, before, end, guess) if before > end else there
        np.testing.assert_allclose(jump(x, now, end, target), there, atol=1e-4)


# How it samples


def test_guidance_goes_from_unlabelled_to_labelled_and_beyond(digits):
    x, t = tensor(rows(3) - 0.5), tensor([0.9, 0.8, 0.7])
    labels = ops.convert_to_tensor(np.array([0, 1, 2], "int32"))
    unknown = ops.convert_to_tensor(np.full(3, 3, "int32"))
    alpha, sigma = digits._marginals(t)

    def image(labels):
        return value(alpha * x - sigma * digits(x, t, labels))

    known, free = image(labels), image(unknown)
    assert np.abs(known - free).max() > 0.01
    for guidance in (0.0, 1.0, 3.0):
        found = value(digits.denoise(x, t, labels, tensor([guidance] * 3)))
        expected = np.clip(free + guidance * (known - free), -1, 1)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        value(digits.denoise(x, t, labels)), np.clip(known, -1, 1), atol=1e-5
    )


@pytest.mark.parametrize("how", [{"solver": "heun"}, {"solver": "ddim", "eta": 1.0}])
def test_steps_can_be_watched_and_change_nothing(digits, how, capsys):
    seen = []
    given = {"labels": [2, 0], "guidance": 2.0, "steps": 3, **how}
    images = digits.generate(
        2, 5, on_step=lambda *step: seen.append(step), progress=True, **given
    )
    assert [k for k, _ in seen] == list(range(1, 6 if how["solver"] == "heun" else 4))
    np.testing.assert_array_equal(seen[-1][1], images)
    assert np.abs(seen[0][1] - images).max() > 0.01
    np.testing.assert_allclose(images, digits.generate(2, 5, **given), atol=1e-4)
    assert "3/3" in capsys.readouterr().out or how["solver"] == "heun"


def test_a_model_has_steps_and_guidance_of_its_own(digits):
    given = {"steps": 3, "guidance": 2.0}
    model = zoo.DDPM(**{**digits.get_config(), **given})
    model.set_weights(digits.get_weights())
    images = digits.generate(2, 5, labels=[2, 0], **given)
    np.testing.assert_allclose(model.generate(2, 5, labels=[2, 0]), images, atol=1e-6)
    plain = digits.generate(2, 5, labels=[2, 0], steps=3)
    assert np.abs(plain - images).max() > 1e-3
    again = model.generate(2, 5, labels=[2, 0], guidance=1)
    np.testing.assert_allclose(again, plain, atol=1e-6)


def test_a_sampler_is_compiled_once(digits):
    digits.generate(3, 0, solver="ddim", steps=2)
    before = len(digits._functions)
    for seed in range(20):
        digits.generate(3 - seed % 2, seed, solver="ddim", steps=2)
    assert len(digits._functions) == before
    digits.generate(3, 0, solver="ddim", steps=3)
    assert len(digits._functions) == before + 1


def test_fresh_noise_is_a_matter_of_eta(digits):
    plain = digits.noise(2, 0, "ddim", 3)
    noisy = digits.noise(2, 0, "ddim", 3, eta=1.0)
    np.testing.assert_array_equal(plain, noisy["start"])
    assert noisy["fresh"].shape == (2, 3, *SHAPE)
    ancestral = digits.noise(2, 0, "ddpm", 3)
    np.testing.assert_array_equal(noisy["fresh"], ancestral["fresh"])
    np.testing.assert_allclose(
        digits.generate(2, 0, solver="ddim", steps=3, eta=1.0),
        digits.generate(2, 0, solver="ddpm", steps=3),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"solver": "rk4"}, "solver is one of ddpm, ddim, euler, heun, dpm"),
        ({"steps": 0}, "steps is a whole number from 1 to 1,000, not 0"),
        ({"steps": 2.5}, "steps is a whole number"),
        ({"eta": 0.5}, "eta is 0 to 1, of ddim; this is 0.5 of dpm"),
        ({"guidance": -1}, "guidance is a number from 0 to 100"),
        ({"guidance": [1, 2, 3]}, "guidance is a number from 0 to 100, or 2 of them"),
    ],
)
def test_a_wrong_way_says_so(digits, how, text):
    with pytest.raises(ValueError, match=text):
        digits.generate(2, 0, **how)


def test_guidance_needs_classes():
    with pytest.raises(ValueError, match="no condition 'guidance'"):
        zoo.DDPM(**SIZES).generate(1, guidance=2.0)


# Verbs that start from pictures


def test_inpainting_keeps_what_is_kept(digits):
    images, mask = rows(2), np.zeros(SHAPE, bool)
    mask[:, :4] = True
    found = digits.inpaint(images, mask, seed=0, steps=3, rounds=2, labels=1)
    np.testing.assert_allclose(found[:, :, :4], images[:, :, :4], atol=1e-6)
    assert np.abs(found[:, :, 4:] - images[:, :, 4:]).mean() > 0.05
    hidden = np.where(mask, images, 0).astype("float32")
    again = digits.inpaint(hidden, mask, seed=0, steps=3, rounds=2, labels=1)
    np.testing.assert_allclose(again, found, atol=1e-5)
    with pytest.raises(ValueError, match="mask holds 0, which is filled, and 1"):
        digits.inpaint(images, 0.5 * mask)
    with pytest.raises(ValueError, match="mask repeats to the images' shape"):
        digits.inpaint(images, mask[:3])
    with pytest.raises(ValueError, match="rounds are of ddpm"):
        digits.inpaint(images, mask, solver="ddim")


def test_editing_changes_more_the_stronger(digits):
    images = rows(2)
    near, far = (
        np.abs(digits.edit(images, s, seed=0, labels=1, steps=4) - images).mean()
        for s in (0.01, 0.9)
    )
    assert near < 0.05 < far
    for strength in (0, 1.5):
        with pytest.raises(ValueError, match="strength is above 0 and up to 1"):
            digits.edit(images, strength)


def test_arcs_end_at_samples(digits):
    arcs = digits.interpolate(3, num=2, seed=4, labels=[0, 2])
    assert arcs.shape == (2, 3, *SHAPE)
    ends = digits.generate(4, 4, labels=[0, 2, 0, 2])
    np.testing.assert_allclose(arcs[:, 0], ends[:2], atol=1e-5)
    np.testing.assert_allclose(arcs[:, -1], ends[2:], atol=1e-5)
    with pytest.raises(ValueError, match="interpolate takes 2 steps or more"):
        digits.interpolate(1)


# The bound


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_bound_is_a_sum_in_closed_form(schedule):
    """Of a network that believes in one grey, the chain's terms telescope."""
    model = zoo.DDPM(**SIZES, schedule=schedule, prediction="x0")
    grey, images = 0.2, np.round(rows(6) * 255) / np.float32(255)
    bias = next(v for v in reversed(model.trainable_variables) if v.shape == (4,))
    bias.assign(np.full(4, grey))  # All else of the last layer is 0.
    x = (2 * images - 1).reshape(6, -1).astype("float64")
    snr = [np.divide(*model.schedule(np.float64(t))) ** 2 for t in (1 / 1000, 1.0)]
    chain = 0.5 * (snr[0] - snr[1]) * np.sum((x - grey) ** 2, axis=1)
    alpha, sigma = model.schedule(np.float64(1.0))
    prior = 0.5 * np.sum(sigma**2 + (alpha * x) ** 2 - 1 - 2 * np.log(sigma), axis=1)
    levels = -math.log(1e-12) * np.sum(np.abs(x - grey) > 0.2, axis=1)
    found = -model.score(images, samples=400) * 64 * math.log(2)
    assert (chain > 20 * (prior + levels)).all()
    np.testing.assert_allclose(found, chain + prior + levels, rtol=0.1)


def test_a_flow_has_a_bound_too():
    model = zoo.DiT(SHAPE, width=8, depth=1, heads=1)
    times = model._chain()
    assert (times[0], times[-1], len(times)) == (0.004, 1.0, 1000)
    alpha, sigma = model.schedule(times[0])
    assert 255 * sigma == pytest.approx(alpha, rel=0.05)
    assert zoo.DDPM(**SIZES)._chain()[0] == 0.001
    found = model.score(rows(3), samples=3)
    assert np.isfinite(found).all()
    assert (found < 0).all()


def test_a_perfect_network_pays_for_the_last_step_alone():
    model = zoo.DDPM(**SIZES, prediction="x0")
    bias = next(v for v in reversed(model.trainable_variables) if v.shape == (4,))
    bias.assign(np.full(4, 2 * 51 / 255 - 1))
    images = np.full((3, *SHAPE), 51, "uint8")
    found = model.score(images)
    assert found.shape == (3,)
    sigma = model.schedule(np.float64(1 / 1000))[1]
    inside = math.erf(1 / 255 / sigma / math.sqrt(2))  # Of a level's width.
    np.testing.assert_allclose(found, math.log2(inside), atol=0.01)
    with pytest.raises(ValueError, match="takes no labels"):
        model.score(images, [0, 1, 2])


# Sizes


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"image_shape": [10, 8, 1], "channels": [8, 8, 8]}, "multiples of 8 here"),
        ({"channels": []}, "1 to 8 channels"),
        ({"channels": [7]}, "channels are even"),
        ({"blocks": 0}, "1 to 8 blocks"),
        ({"attention": [3]}, "attention names levels from -1 to 0"),
        ({"dropout": 1.0}, "dropout is in"),
        ({"drop": 1.0}, "drop is a share"),
        ({"steps": 0}, "steps is a whole number from 1 to 1,000"),
        ({"guidance": 2.0}, "guidance is of a model with classes"),
        ({"guidance": -1.0, "classes": 3}, "guidance is a number from 0 to 100"),
        ({"prediction": "velocity"}, "DDPM predicts epsilon, x0 or v"),
        ({"schedule": "quadratic"}, "schedule is one of linear, cosine, straight"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, text):
    with pytest.raises(ValueError, match=text):
        zoo.DDPM(**{**SIZES, **sizes})


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"patch": 3}, "multiples of patch"),
        ({"depth": 101}, "depth and mlp are 1 to 100"),
        ({"heads": 3}, "3 does not divide 16"),
        ({"objective": "gan"}, "objective is 'flow' or 'ddpm'"),
    ],
)
def test_sizes_of_a_transformer_are_refused(sizes, text):
    with pytest.raises(ValueError, match=text):
        zoo.DiT(**{**SMALL["DiT"], **sizes})


def test_a_transformer_begins_as_nothing_and_knows_places():
    model = build("DiT")
    x, t = rows(2), np.array([0.3, 0.8], "float32")
    np.testing.assert_array_equal(value(model(tensor(x), tensor(t))), 0 * x)
    awake(model)
    found = value(model(tensor(x), tensor(t)))
    moved = value(model(tensor(x[:, ::-1].copy()), tensor(t)))[:, ::-1]
    assert np.abs(found - moved).max() > 1e-3


def test_a_student_starts_from_a_ddpm():
    keras.utils.set_random_seed(0)
    teacher = awake(zoo.DDPM(**SIZES))
    student = ConsistencyModel(**SIZES, segments=4)
    student.set_weights(teacher.get_weights())
    np.testing.assert_allclose(
        student.generate(2, 0), teacher.generate(2, 0, "ddim", 4), atol=1e-5
    )
    assert "DDPM" in student.starts_from
    with pytest.raises(ValueError, match="segments are 1 to 64, grid a multiple"):
        ConsistencyModel(**SIZES, segments=3, grid=64)
    with pytest.raises(ValueError, match="substeps are 1 to 64, not 0"):
        ConsistencyModel(**SIZES, substeps=0)


@pytest.mark.once
def test_a_student_learns_where_its_teacher_comes():
    """By DDIM in two steps, then nearer to what the teacher finds in six."""
    keras.utils.set_random_seed(0)
    images = np.full((48, *SHAPE), 0.1, "float32")
    images[::2, :4] = 0.9
    teacher = zoo.DDPM(**SIZES)
    teacher.compile(keras.optimizers.Adam(1e-2))
    teacher.fit(images, batch_size=16, epochs=20, verbose=0)
    student = ConsistencyModel(**SIZES, segments=2, substeps=3)
    student.starts(teacher)
    assert not any("teacher" in path for path in places(student))
    aim = teacher.generate(64, 0, "dpm++", 6)
    before = np.abs(student.generate(64, 0) - aim).mean()
    student.compile(keras.optimizers.Adam(3e-3))
    kept = teacher.get_weights()
    student.fit(images, batch_size=16, epochs=12, verbose=0)
    assert np.abs(student.generate(64, 0) - aim).mean() < 0.8 * before
    for first, second in zip(kept, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    other = ConsistencyModel(**SIZES, segments=2)
    other.starts(student)  # Its own kind has nothing to teach.
    assert other.teacher is None


def test_evenly_spaced_times_end_where_they_should():
    np.testing.assert_allclose(times(4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(times(2, 0.6, 0.2), [0.6, 0.4, 0.2])
