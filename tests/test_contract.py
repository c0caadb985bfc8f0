"""What every model and every preset keeps, on whichever backend runs."""

import functools
import json

import keras
import numpy as np
import pytest

import zoo
from zoo import _registry
from zoo._card import card_text, weights_of
from zoo._saving import outline

SMALL = {
    "VAE": {"latent": 3, "hidden": [16], "image_shape": [8, 8, 1]},
    "VAE-convolutional": {
        "latent": 3,
        "hidden": [4, 8],
        "image_shape": [8, 8, 3],
        "network": "convolutional",
        "likelihood": "gaussian",
        "neck": 2,
    },
    "VAE-classes": {
        "latent": 3,
        "hidden": [16],
        "image_shape": [8, 8, 1],
        "samples": 4,
        "classes": 3,
    },
    "Autoencoder": {
        "latent": 3,
        "hidden": [16],
        "image_shape": [8, 8, 1],
        "corruption": 0.1,
        "components": 2,
    },
    "Classifier": {
        "image_shape": [8, 8, 1],
        "hidden": [4],
        "features": 8,
        "classes": 3,
        "shift": 1,
    },
    "MADE": {"image_shape": [8, 8, 1], "hidden": 16, "dropout": 0.1},
    "NeuralNGram": {"vocabulary": "abc\n", "context": 3, "embedding": 4, "hidden": 8},
    "CharRNN": {"vocabulary": "abc\n", "hidden": [8, 4], "dropout": 0.1},
    "CharRNN-gru": {
        "vocabulary": "abc\n",
        "cell": "gru",
        "hidden": [8],
        "forgetful": 0.1,
    },
    "GPT": {
        "vocabulary": "abc\n",
        "window": 12,
        "width": 8,
        "depth": 2,
        "heads": 2,
        "dropout": 0.1,
    },
    "GPT-merges": {"merges": "a b\nc ab", "window": 12, "width": 8, "depth": 1},
    "BERT": {
        "pieces": "a\nb\nc\n##a\n##b\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]",
        "window": 26,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "dropout": 0.1,
        "hide": 0.3,
    },
    "T5": {
        "vocabulary": "abc",
        "window": 14,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "smoothing": 0.1,
    },
    "ChoraleRNN": {
        "voices": 3,
        "lowest": 60,
        "highest": 66,
        "hidden": 8,
        "dropout": 0.1,
        "forgetful": 0.1,
    },
    "SpeechRNN": {
        "classes": 3,
        "speakers": 2,
        "bands": 4,
        "frames": 10,
        "hidden": 8,
        "heard": 6,
        "mixture": 2,
    },
    "Recognizer": {"samples": 256, "classes": [3, 2], "hidden": [4, 8], "shift": 8},
    "DCGAN": {"latent": 4, "hidden": [8], "image_shape": [8, 8, 1], "r1_every": 2},
    "DCGAN-classes": {
        "latent": 4,
        "hidden": [8, 4],
        "image_shape": [8, 8, 3],
        "classes": 3,
    },
    "WGANGP": {
        "latent": 4,
        "hidden": [8],
        "image_shape": [8, 8, 1],
        "classes": 3,
        "critic_turns": 2,
    },
    "Pix2Pix": {"image_shape": [8, 8, 3], "hidden": [8, 8], "patch": [8]},
    "CycleGAN": {
        "image_shape": [8, 8, 1],
        "hidden": [4, 8],
        "blocks": 1,
        "patch": [8],
        "pool": 5,
    },
    "DDPM": {
        "image_shape": [8, 8, 1],
        "channels": [8],
        "blocks": 1,
        "drop": 0.0,
    },
    "DDPM-classes": {
        "image_shape": [8, 8, 3],
        "channels": [8, 8],
        "blocks": 1,
        "patch": 2,
        "dropout": 0.1,
        "prediction": "epsilon",
        "schedule": "linear",
        "min_snr": 0.0,
        "classes": 3,
    },
    "DiT": {"image_shape": [8, 8, 1], "width": 16, "depth": 2, "heads": 2},
    "DiT-classes": {
        "image_shape": [8, 8, 3],
        "patch": 2,
        "width": 12,
        "depth": 1,
        "heads": 1,
        "objective": "ddpm",
        "classes": 3,
    },
    "ConsistencyModel": {
        "image_shape": [8, 8, 1],
        "channels": [8],
        "blocks": 1,
        "patch": 2,
        "segments": 2,
        "grid": 8,
        "classes": 3,
    },
}
READERS = {"Classifier": "classify", "DCGAN": "judge", "WGANGP": "judge"}
READERS |= dict.fromkeys(("DDPM", "DiT", "ConsistencyModel"), "score")
READERS |= {"MADE": "score", "Pix2Pix": "translate", "CycleGAN": "translate"}


def build(name, seed=0):
    keras.utils.set_random_seed(seed)
    return getattr(zoo, name.split("-")[0])(**SMALL[name])


@functools.cache
def built(name):
    """A model that no test changes: what it compiles is there for the next."""
    return build(name)


def rows(model, num=24):
    """Images of bright and dark halves, and what the model learns beside them.

    That is the labels that say which, or negatives for a model of pairs. Of other
    media: windows of a few letters in turn; a chord that moves; sounds, high or low.
    """
    labels = np.arange(num) % 3
    turns = (labels[:, None] + np.arange(12)) % 3
    if model.medium == "text":
        return (turns,)
    if model.medium == "translation":
        texts = ["".join("abc"[n] for n in row) for row in turns]
        return tuple(model.rows(t, "fit") for t in (texts, [t[::-1] for t in texts]))
    if model.medium == "music":
        return ((turns[:, :4, None] + [5, 3, 1]).reshape(num, 12).astype("int32"),)
    both = np.stack([labels, np.arange(num) % 2], axis=1).astype("int32")
    if model.medium == "speech":
        sounds = np.zeros((num, 10, 5), "float32")
        sounds[:, :8] = labels[:, None, None] - 1
        sounds[..., -1] = np.arange(10) < 8
        return sounds, both
    if model.medium == "sounds":
        time = np.arange(256) * (1 + labels[:, None])
        return (np.sin(time / 4) * (1 + both[:, 1:])).astype("float32") / 2, both
    images = np.random.default_rng(0).uniform(0, 0.2, (num, *model.image_shape))
    images[labels == 1, :4] += 0.7
    images[labels == 2, :, :4] += 0.7
    images = images.astype("float32")
    if model.pairs:
        return images, 1 - images
    return (images, labels) if model.classes else (images,)


def optimizers(model, rate=1e-2):
    names = dict.fromkeys(name for name, _, _ in model.turns())
    if model.learns_by[0] == "lamb":
        return keras.optimizers.Lamb(2 * rate)
    if len(names) == 1:
        return keras.optimizers.Adam(rate)
    return {name: keras.optimizers.Adam(rate, beta_1=0.5) for name in names}


def reader(model):
    """The verb that reads what the model learns from."""
    if model.medium == "text":
        return lambda windows: model.score([model.text(row) for row in windows])
    if model.medium == "translation":
        return lambda source, *_: model._run("_likelihood", source, source)
    if model.medium == "music":
        return lambda pieces: model.score([model.roll(row) for row in pieces])
    if model.medium == "speech":
        return lambda *batch: model._run("call", *batch)[0]
    if model.medium == "sounds":
        return lambda sounds: model.classify(sounds)[0]
    return getattr(model, READERS.get(type(model).__name__, "reconstruct"))


def error(model, images, *others):
    """How far what a model makes lies from what it learns, where two play."""
    if hasattr(model, "back"):
        forth = model.translate(images)
        return np.abs(model.translate(forth, back=True) - images).mean()
    if model.pairs:
        return np.abs(model.translate(images) - others[0]).mean()
    return np.abs(model.generate(96, seed=0).mean(0) - images.mean(0)).mean()


def learns(model):
    """Train, and see that the loss falls, or the error where losses are a game."""
    model.compile(optimizers(model))
    data = rows(model, 96)
    game = len(model.metrics) > 2
    before = error(model, *data) if game else None
    history = model.fit(*data, batch_size=24, epochs=25, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    if game:
        assert error(model, *data) < 0.8 * before
    else:
        first = history["loss"][0]
        assert np.mean(history["loss"][-3:]) < first - 0.1 * abs(first)
    return data


def medium(name):
    return getattr(zoo, name.split("-")[0]).medium


def once(names):
    """The names as parameters; of a model, all kinds but the first on one backend."""
    return [pytest.param(n, marks=pytest.mark.once if "-" in n else ()) for n in names]


every = pytest.mark.parametrize("name", SMALL)
heavy = pytest.mark.parametrize("name", once(SMALL))
of_images = pytest.mark.parametrize("name", [n for n in SMALL if medium(n) == "images"])
writers = pytest.mark.parametrize("name", [n for n in SMALL if medium(n) == "text"])
WAYS = "VAE", "DCGAN", "CycleGAN", "CharRNN", "SpeechRNN", "DDPM"
silent = "Classifier", "Recognizer", "Pix2Pix", "CycleGAN", "T5"
generators = pytest.mark.parametrize("name", [n for n in SMALL if n not in silent])
painters = pytest.mark.parametrize(
    "name", [n for n in SMALL if n not in silent and medium(n) == "images"]
)


def test_every_model_is_in_the_contract():
    assert {name.split("-")[0] for name in SMALL} == set(zoo.MODELS)


@writers
def test_texts_have_length_alphabet_and_a_seed(name):
    model = built(name)
    texts = model.generate(5, seed=3, length=20, prompt="ab")
    assert [text[:2] for text in texts] == ["ab"] * 5
    if model.vocabulary:  # Of bytes, some make one character.
        assert [len(text) for text in texts] == [22] * 5
        assert set("".join(texts)) <= set(model.vocabulary)
    assert texts == model.generate(5, seed=3, length=20, prompt="ab")
    assert texts[:2] == model.generate(2, seed=3, length=20, prompt="ab")
    assert texts != model.generate(5, seed=4, length=20, prompt="ab")


@painters
def test_samples_have_shape_range_and_a_seed(name):
    model = built(name)
    images = model.generate(5, seed=3)
    assert images.shape == (5, *model.image_shape)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images, model.generate(5, seed=3))
    np.testing.assert_allclose(images[:2], model.generate(2, seed=3), atol=1e-6)
    assert np.abs(images - model.generate(5, seed=4)).max() > 1e-6


@generators
@pytest.mark.parametrize("num", [0, -1, 1.5, "3", 100_001])
def test_a_wrong_number_of_samples_is_refused(name, num):
    with pytest.raises(ValueError, match="whole number from 1 to 100,000"):
        built(name).generate(num)


@generators
def test_wrong_seeds_and_conditions_are_refused(name):
    model = built(name)
    with pytest.raises(ValueError, match="seed is a whole number"):
        model.generate(1, seed=-1)
    with pytest.raises(ValueError, match="no condition 'colour'"):
        model.generate(1, colour=3)
    if model.classes:
        for labels in (3, -1, 0.5, [0, 1, 5]):
            with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
                model.generate(3, labels=labels)
        with pytest.raises(ValueError, match="one for each sample"):
            model.generate(3, labels=[0, 1])
    else:
        with pytest.raises(ValueError, match="no condition 'labels'"):
            model.generate(1, labels=0)


@heavy
def test_it_learns(name):
    model = build(name)
    data = learns(model)
    weights = model.get_weights()
    assert np.isfinite(model.evaluate(*data, verbose=0)).all()
    for before, after in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("name", "policy"),
    # Each way to train on every backend, all on one; float16 scales losses, of one
    # player or of two.
    [(name, "mixed_bfloat16") for name in WAYS]
    + [("VAE", "mixed_float16"), ("DCGAN", "mixed_float16")]
    + [
        pytest.param(name, "mixed_bfloat16", marks=pytest.mark.once)
        for name in SMALL
        if name.split("-")[0] not in WAYS
    ],
)
def test_it_learns_in_mixed_precision(name, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build(name)
        learns(model)
        if model.verbs()[0] == "generate":
            kind = str if model.medium == "text" else np.ndarray
            assert isinstance(model.generate(2, seed=0)[0], kind)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {str(w.dtype) for w in model.weights} == {"float32"}


@pytest.mark.once
@of_images
def test_uint8_images_are_the_same_as_floats(name):
    model = built(name)
    images, *labels = rows(model)
    bytes_ = np.round(images * 255).astype("uint8")
    given = [] if name in silent else labels
    floats = reader(model)(bytes_ / np.float32(255), *given)
    np.testing.assert_allclose(reader(model)(bytes_, *given), floats, atol=1e-5)


@of_images
def test_wrong_images_are_refused(name):
    model = built(name)
    good, *others = rows(model)
    for images, text in (
        (good[:, :4], "images have the shape"),
        (good[:0], "N of 1 or more"),
        (good * 255, "images lie in"),
        (good * np.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=text):
            reader(model)(images)
        with pytest.raises(ValueError, match=text):
            model.fit(images, *others)


@every
def test_a_second_array_comes_exactly_where_it_is_learned_from(name):
    model = build(name)
    model.compile()
    images, *others = rows(model)
    with pytest.raises(ValueError, match="learns by fit"):
        model.fit(images, *([] if others else [np.zeros(len(images))]), verbose=0)


@every
def test_a_missing_verb_names_those_there_are(name):
    model = built(name)
    verb = "encode" if model.pairs else "translate"
    with pytest.raises(AttributeError, match=f"no verb '{verb}'; it has .*fit"):
        getattr(model, verb)(None)
    for verb in model.verbs():
        assert callable(getattr(model, verb))


@heavy
def test_a_preset_round_trips(name, tmp_path):
    model, random = build(name), np.random.default_rng(1)
    moved = [random.normal(0, 0.1, w.shape).astype("float32") for w in model.weights]
    for weight, change in zip(model.weights, moved):
        weight.assign(weight + np.abs(change))  # Variances stay above 0.
    model.compile(optimizers(model))
    model.save_preset(tmp_path)
    again = zoo.load(tmp_path)
    assert again.get_config() == json.loads(json.dumps(model.get_config()))
    for first, second in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(first, second)
    images, *others = rows(model)
    given = [] if name in silent else others
    np.testing.assert_allclose(
        reader(model)(images, *given), reader(again)(images, *given), atol=1e-6
    )
    if model.medium == "text":
        assert model.generate(3, 0) == again.generate(3, 0)
    elif name not in silent:
        for first, second in zip(model.generate(3, 0), again.generate(3, 0)):
            np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("name", zoo.presets())
def test_preset(name):
    folder = _registry.home() / name
    card = _registry.read(folder)
    trained = weights_of(card)
    if trained:
        model = zoo.load(name)
    else:  # Without values: the largest would take 2.7 GB.
        model, _ = outline(getattr(zoo, card["model"]), card["config"])
    assert model.count_params() == card["parameters"]
    assert (folder / "README.md").read_text("utf-8") == card_text(name, card)
    listed = {*card["files"], "config.json", "README.md"}
    assert {f.name for f in folder.iterdir()} == listed
    _registry.check_files(folder, card)
    for key in ("summary", "use", "limits", "licence", "data", "recipe"):
        assert card[key], key
    if trained:
        assert trained["bytes"] < 10e6
        assert all(m["value"] is not None for m in card["metrics"].values())
        assert card["recipe"]["run"]["seconds"] > 0
        if "generate" in model.verbs():
            samples = model.generate(4, seed=0)
            if model.medium == "text":
                assert len(set(samples)) == 4
            elif model.medium == "images":
                assert np.isfinite(samples).all()
                assert samples.std() > 0.1
            else:
                assert all(np.isfinite(sample).all() for sample in samples)
                assert all(sample.std() > 1e-3 for sample in samples)
    else:
        with pytest.raises(zoo.PresetError, match="no trained weights"):
            zoo.load(name)


def test_all_presets_together_stay_light():
    files = [f for f in _registry.home().rglob("*") if f.is_file()]
    weights = sum(f.stat().st_size for f in files if f.suffix == ".h5")
    assert weights < 28e6
    assert sum(f.stat().st_size for f in files) < weights + 2.5e6  # Pictures, sounds.
