"""What every model and every preset keeps, on whichever backend runs."""

import json

import keras
import numpy as np
import pytest

import zoo
from zoo import _registry
from zoo._card import card_text

SMALL = {
    "VAE": {"latent": 3, "hidden": [16], "image_shape": [8, 8, 1]},
    "VAE-convolutional": {
        "latent": 3,
        "hidden": [4, 8],
        "image_shape": [8, 8, 3],
        "network": "convolutional",
        "likelihood": "gaussian",
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
}


def build(name, seed=0):
    keras.utils.set_random_seed(seed)
    return getattr(zoo, name.split("-")[0])(**SMALL[name])


def rows(model, num=24):
    """Images of bright and dark halves, and the labels that say which."""
    labels = np.arange(num) % 3
    images = np.random.default_rng(0).uniform(0, 0.2, (num, *model.image_shape))
    images[labels == 1, :4] += 0.7
    images[labels == 2, :, :4] += 0.7
    images = images.astype("float32")
    return (images, labels) if model.classes else (images,)


every = pytest.mark.parametrize("name", SMALL)
generators = pytest.mark.parametrize("name", [n for n in SMALL if n != "Classifier"])


def test_every_model_is_in_the_contract():
    assert {name.split("-")[0] for name in SMALL} == set(zoo.MODELS)


@generators
def test_samples_have_shape_range_and_a_seed(name):
    model = build(name)
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
        build(name).generate(num)


@generators
def test_wrong_seeds_and_conditions_are_refused(name):
    model = build(name)
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


@every
def test_it_learns(name):
    model = build(name)
    model.compile(keras.optimizers.Adam(1e-2))
    data = rows(model, 96)
    losses = model.fit(*data, batch_size=24, epochs=25, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * losses[0]
    assert np.isfinite(model.evaluate(*data, verbose=0))


@every
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_learns_in_mixed_precision(name, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build(name)
        model.compile(keras.optimizers.Adam(1e-2))
        data = rows(model, 96)
        losses = model.fit(*data, batch_size=24, epochs=25, verbose=0).history["loss"]
        if model.verbs()[0] == "generate":
            assert model.generate(2, seed=0).dtype == np.float32
    finally:
        keras.config.set_dtype_policy("float32")
    assert {str(w.dtype) for w in model.weights} == {"float32"}
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@every
def test_uint8_images_are_the_same_as_floats(name):
    model = build(name)
    images, *labels = rows(model)
    bytes_ = np.round(images * 255).astype("uint8")
    verb = model.classify if name == "Classifier" else model.reconstruct
    given = [] if name == "Classifier" else labels
    floats = verb(bytes_ / np.float32(255), *given)
    np.testing.assert_allclose(verb(bytes_, *given), floats, atol=1e-5)


@every
def test_wrong_images_are_refused(name):
    model = build(name)
    verb = getattr(model, "encode" if "encode" in model.verbs() else "classify")
    good, *_ = rows(model)
    for images, text in (
        (good[:, :4], "images have the shape"),
        (good[:0], "N of 1 or more"),
        (good * 255, "images lie in"),
        (good * np.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=text):
            verb(images)
        with pytest.raises(ValueError, match=text):
            model.fit(images)


@every
def test_labels_come_exactly_where_there_are_classes(name):
    model = build(name)
    model.compile()
    images, *labels = rows(model)
    with pytest.raises(ValueError, match="learns by fit"):
        model.fit(images, *([] if labels else [np.zeros(len(images))]), verbose=0)


@every
def test_a_missing_verb_names_those_there_are(name):
    model = build(name)
    with pytest.raises(AttributeError, match="no verb 'translate'; it has .*fit"):
        model.translate(None)
    for verb in model.verbs():
        assert callable(getattr(model, verb))


@every
def test_a_preset_round_trips(name, tmp_path):
    model = build(name)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(*rows(model), verbose=0)
    model.save_preset(tmp_path)
    again = zoo.load(tmp_path)
    assert again.get_config() == json.loads(json.dumps(model.get_config()))
    for first, second in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(first, second)
    verb = "generate" if "generate" in model.verbs() else "classify"
    given = (3, 0) if verb == "generate" else (rows(model)[0],)
    np.testing.assert_allclose(
        getattr(model, verb)(*given), getattr(again, verb)(*given), atol=1e-6
    )


@pytest.mark.parametrize("name", zoo.presets())
def test_preset(name):
    folder = _registry.home() / name
    card = _registry.read(folder)
    trained = "model.weights.h5" in card["files"]
    model = zoo.load(name, weights=trained)
    assert model.count_params() == card["parameters"]
    assert (folder / "README.md").read_text("utf-8") == card_text(name, card)
    listed = {*card["files"], "config.json", "README.md"}
    assert {f.name for f in folder.iterdir()} == listed
    _registry.check_files(folder, card)
    for key in ("summary", "use", "limits", "licence", "data", "recipe"):
        assert card[key], key
    if trained:
        assert card["files"]["model.weights.h5"]["bytes"] < 10e6
        assert all(m["value"] is not None for m in card["metrics"].values())
        assert card["recipe"]["run"]["seconds"] > 0
        if "generate" in model.verbs():
            images = model.generate(4, seed=0)
            assert np.isfinite(images).all()
            assert images.std() > 0.1
    else:
        with pytest.raises(zoo.PresetError, match="no trained weights"):
            zoo.load(name)


def test_all_presets_together_stay_light():
    sizes = [f.stat().st_size for f in _registry.home().rglob("*") if f.is_file()]
    assert sum(sizes) < 28e6
