"""An export runs without Keras, gives what Keras gives, or leaves nothing behind."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import commands
import keras
import numpy as np
import pytest
import sentences
from keras import ops
from test_contract import SMALL, build

import zoo
from zoo import _backend, _export, _registry
from zoo._card import weights_of
from zoo._litert import Runner
from zoo._run import Exported
from zoo._sentencepieces import packed
from zoo.transformers import gpt

here = pytest.mark.skipif(
    _backend.NAME != "tensorflow",
    reason="other backends export through a process of TensorFlow, 10 s each: "
    "test_other_backends_export_through_tensorflow does it once",
)
every = pytest.mark.parametrize("name", SMALL)
formats = pytest.mark.parametrize("format", _export.FORMATS)


def runner(path):
    """Return what runs a signature of the file or folder, with no help of the zoo."""
    if path.is_dir() and not (path / "1").is_dir():
        path = path / "model.tflite"
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        return lambda name, **inputs: interpreter.get_signature_runner(name)(**inputs)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path / "1"))
    return lambda name, **inputs: {
        key: tensor.numpy()
        for key, tensor in loaded.signatures[name](
            **{key: tf.constant(array) for key, array in inputs.items()}
        ).items()
    }


def inputs(model, num, seed):
    """Return the inputs of the signature `generate` by their names in the file."""
    noise = model.noise(num, seed)
    if not isinstance(noise, dict):
        return {"noise": noise, **model.conditions(num)}
    named = {f"noise_{key}": array for key, array in noise.items()}
    return {**named, **model.conditions(num)}


def runs_by_itself(model, folder):
    """Compare the reference runner with Keras: whole samples, of another number."""
    ran = Exported(folder)
    assert set(ran.signatures) == set(model.signatures())
    with np.load(folder / "reference.npz") as reference:
        for name, parts in ran.signatures.items():
            given = {k: reference[f"{name}.input.{k}"] for k in parts["inputs"]}
            for key, found in ran.call(name, **given).items():
                expected = reference[f"{name}.output.{key}"]
                np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-5)
    if "generate" not in model.signatures():
        with pytest.raises(ValueError, match="makes nothing; it has"):
            ran.generate()
        if model.medium == "translation":
            texts = ["abc", "b"]
            assert ran.translate(texts) == model.translate(texts)
            assert ran.translate("b") == model.translate("b")
            drawn = model.translate(texts, seed=3, temperature=1)
            assert ran.translate(texts, seed=3, temperature=1) == drawn
            told = f"texts of 1 to {model.window - 1} symbols"
            with pytest.raises(ValueError, match=told):
                ran.translate("abc" * model.window)
        return
    long = {"length": 5} if model.medium in ("text", "music") else {}
    pairs = zip(ran.generate(3, seed=7, **long), model.generate(3, seed=7, **long))
    for found, expected in pairs:
        if model.medium == "text":
            assert found == expected
        else:  # Phases made up for speech enlarge what differs in its frames.
            near = 2e-3 if model.medium == "speech" else 1e-4
            np.testing.assert_allclose(found, expected, atol=near)


@here
@pytest.mark.parametrize(
    ("name", "format"),
    # A SavedModel is what a LiteRT file is made from: of each class, one.
    [(n, f) for f in _export.FORMATS for n in SMALL if f == "litert" or "-" not in n],
)
def test_every_signature_gives_what_keras_gives(name, format, tmp_path):
    model, path = build(name), tmp_path / "model"
    differences = model.export(path, format=format, batch=2, verbose=False)
    assert set(differences) == set(model.signatures())
    assert max(differences.values()) < 1e-5
    assert os.listdir(tmp_path) == [path.name]
    names = {"README.md", "model.json", "reference.npz", _export.FILES[format]}
    assert set(os.listdir(path)) == names
    if format == "litert":
        runs_by_itself(model, path)
    run = runner(path)
    if model.medium == "text":
        return writes_as_keras_does(model, run)
    if model.medium == "translation":
        return translates_as_keras_does(model, run)
    if model.medium != "images":
        return makes_as_keras_does(model, run)
    images = np.random.default_rng(0).random((2, *model.image_shape), dtype="float32")
    labels, binary = model.conditions(2), images.round()
    times = np.full((2,), 0.3, "float32")
    verbs = {
        "classify": lambda: ({"images": images}, model.classify(images)),
        "score": lambda: ({"images": binary}, model.score(binary)),
        "translate": lambda: ({"images": images}, model.translate(images)),
        "translate_back": lambda: (
            {"images": images},
            model.translate(images, back=True),
        ),
        "denoise": lambda: (
            {"images": images, "times": times, **labels},
            model._run("denoise", images, times, *labels.values()),
        ),
        "generate": lambda: (inputs(model, 2, seed=7), model.generate(2, seed=7)),
        "encode": lambda: (
            {"images": images, **labels},
            model.encode(images, *labels.values()),
        ),
        "decode": lambda: ({"codes": codes, **labels}, model.decode(codes, **labels)),
    }
    codes = np.ones((2, getattr(model, "latent", 1)), "float32")
    for signature in model.signatures():
        given, expected = verbs[signature]()
        found = run(signature, **given)
        assert list(found) == ["output"]
        np.testing.assert_allclose(found["output"], expected, atol=1e-5)


def translates_as_keras_does(model, run):
    """Compare T5, whose loop is the app's: the state goes out and in."""
    texts = ["abc", "b"]
    state = model.signatures()["decode"][1]["state"]
    state = {name: np.zeros_like(array).repeat(2, 0) for name, array in state.items()}
    state.update(run("encode", source=model.rows(texts, "translate")))
    symbol, written = np.full(2, model.symbols, "int32"), []
    for _ in range(model.window):
        out = run(
            "decode", symbol=symbol, **{f"state_{k}": v for k, v in state.items()}
        )
        symbol = out.pop("logits").argmax(axis=1).astype("int32")
        state.update({k.removeprefix("state_"): value for k, value in out.items()})
        written.append(symbol)
    assert [*map(model.text, np.stack(written, axis=1))] == model.translate(texts)


def makes_as_keras_does(model, run):
    """Compare music, speech or what is recognised with Keras."""
    if model.medium == "sounds":
        sounds = np.random.default_rng(0).random((2, model.samples), dtype="float32")
        found = run("classify", sounds=sounds)
        for i, expected in enumerate(model.classify(sounds)):
            np.testing.assert_allclose(found[f"output_{i}"], expected, atol=1e-5)
        return
    given = inputs(model, 2, seed=7)
    if model.medium == "speech":
        labels = model.conditions(2).values()
        expected = model._run("sample", model.noise(2, 7), *labels)
        found = run("generate", **given)["output"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        first, state = model.start(2)
        now = {
            "frame": np.array(first),
            **{f"state_{name}": np.array(v) for name, v in state.items()},
            **{f"noise_{name}": v[:, 0] for name, v in model.noise(2, 7).items()},
            **model.conditions(2),
        }
        found = run("step", **now)["frame"]
        np.testing.assert_allclose(found, expected[:, 0], atol=1e-5)
        return
    free = np.full(given["noise"].shape, -1, "int32")
    one = np.ones(2, "float32")
    found = run("generate", **given, given=free, temperature=one)["output"]
    rolls = np.stack([model.roll(row) for row in found])
    np.testing.assert_array_equal(rolls, model.generate(2, seed=7))


def writes_as_keras_does(model, run):
    """Compare a whole text, and one that is written step by step, with Keras."""
    if "fill" in model.signatures():
        rows = model.rows(["a [MASK] b", "c c [MASK]"], "fill")
        found = run("fill", row=rows)["output"]
        for row, odds, text in zip(rows, found, ["a [MASK] b", "c c [MASK]"]):
            for (place,), best in zip(np.argwhere(row == 9), model.fill(text, top=10)):
                expected = [
                    odds[place][model._tokens.number[name]] for name, _ in best[:3]
                ]
                found_ = [share for _, share in best[:3]]
                np.testing.assert_allclose(found_, expected, atol=1e-5)
        return
    noise = model.noise(2, seed=7)
    length = noise.shape[1]
    given = np.full((2, length), -1, "int32")
    expected = model.generate(2, seed=7, length=length)
    one = np.ones(2, "float32")
    found = run("generate", noise=noise, given=given, temperature=one)["output"]
    assert [model.text(row) for row in found] == expected
    begun = model.numbers("ab")
    given[:, : len(begun)] = begun
    found = run("generate", noise=noise, given=given, temperature=0 * one)["output"]
    left = length - len(begun)
    written = model.generate(2, length=left, prompt="ab", temperature=0)
    assert [model.text(row) for row in found] == written

    state = {f"state_{k}": np.array(v) for k, v in model.start(2).items()}
    symbol, letters = np.full(2, model.symbols, "int32"), []
    for step in range(10):
        out = run("step", symbol=symbol, **state)
        edges = np.exp(out.pop("logits")).cumsum(axis=1)
        symbol = (edges <= noise[:, step, None] * edges[:, -1:]).sum(axis=1)
        symbol, state = symbol.astype("int32"), out
        letters.append(symbol)
    whole = model._run("sample", noise)
    np.testing.assert_array_equal(np.stack(letters, axis=1), whole[:, :10])


def test_other_backends_export_through_tensorflow(tmp_path, monkeypatch):
    if _backend.NAME == "tensorflow":
        monkeypatch.setattr(_backend, "NAME", "jax")
    model, path = build("Autoencoder"), tmp_path / "model.tflite"
    differences = model.export(path, format="litert", batch=3, verbose=False)
    assert set(differences) == {"generate", "encode", "decode"}
    assert max(differences.values()) < 1e-5
    assert os.listdir(tmp_path) == [path.name]
    found = runner(path)("generate", **inputs(model, 3, seed=7))["output"]
    np.testing.assert_allclose(found, model.generate(3, seed=7), atol=1e-5)


@here
def test_litert_needs_no_flex_and_holds_each_weight_once(tmp_path, capsys):
    from ai_edge_litert import schema_py_generated as schema

    model, path = zoo.VAE(hidden=(256,)), tmp_path / "vae.tflite"
    model.export(path, format="litert")
    content = path.read_bytes()
    file = schema.Model.GetRootAs(content)
    codes = {
        file.OperatorCodes(i).BuiltinCode() for i in range(file.OperatorCodesLength())
    }
    operators = schema.BuiltinOperator
    assert operators.FULLY_CONNECTED in codes
    assert not codes & {operators.CUSTOM, operators.VAR_HANDLE, operators.READ_VARIABLE}
    keys = [
        file.SignatureDefs(i).SignatureKey() for i in range(file.SignatureDefsLength())
    ]
    assert sorted(keys) == [b"decode", b"encode", b"generate"]
    assert len(content) < 1.05 * 4 * model.count_params()
    printed = capsys.readouterr().out
    assert "noise float32 [1, 32] -> output float32 [1, 28, 28, 1]" in printed
    assert f"vae.tflite: {len(content):,} bytes" in printed


CARDS = {name: _registry.read(_registry.home() / name) for name in zoo.presets()}
TRAINED = {  # The last, by name, of each class.
    card["model"]: name for name, card in CARDS.items() if weights_of(card)
}


@here
@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED.values())
def test_every_trained_preset_runs_by_itself(name, tmp_path):
    model = zoo.load(name)
    model.export(tmp_path / name, "litert", verbose=False)
    about = json.loads((tmp_path / name / "model.json").read_text("utf-8"))
    assert (about["preset"], about["licence"]) == (name, model.card["licence"])
    assert about["weights_sha256"] == weights_of(model.card)["sha256"]
    runs_by_itself(model, tmp_path / name)


@here
def test_an_export_cuts_texts_into_the_pieces_of_its_model(tmp_path):
    sizes = {**SMALL["T5"], "vocabulary": None, "window": 24}
    model = zoo.T5(**sizes, sentencepiece=packed(sentences.trained()), table=64, head=4)
    model.export(tmp_path / "t5", format="litert")
    ran = Exported(tmp_path / "t5")
    assert ran.translate(sentences.SAID) == model.translate(sentences.SAID)


@here
def test_an_export_translates_on_the_command_line(tmp_path):
    model = build("T5")
    model.export(tmp_path / "t5", "litert", verbose=False)
    call = ["run", tmp_path / "t5"]
    done = commands.zoo(*call, "--prompt=abc")
    assert done.stdout.splitlines() == [model.translate("abc")], done.stderr
    done = commands.zoo(*call)
    assert done.returncode
    assert "This translates: say what" in done.stderr
    out = f"--out={tmp_path / 'x.txt'}"
    done = commands.zoo(*call, "--prompt=b", out)
    assert (tmp_path / "x.txt").read_text() == model.translate("b") + "\n", done.stderr


@here
@pytest.mark.parametrize("count", [3, 20, 39, 40, 70])
def test_prompts_are_read_in_blocks(long_reader, count, monkeypatch):
    """As Keras reads them, also those longer than the window."""
    model, ran = long_reader
    assert [*ran.signatures] == ["step", "prefill_16"]
    calls, run = [], Runner.run
    monkeypatch.setattr(
        Runner,
        "run",
        lambda self, s, *given: (calls.append(s), run(self, s, *given))[1],
    )
    given = {"prompt": ("abca" * 20)[:count], "length": 50, "seed": 1}
    assert ran.generate(2, **given) == model.generate(2, **given)
    # Of a full window the last half or more is read, and again whenever it is full.
    held = count if count < 40 else 20 + (count - 40) % 20
    assert calls[: held // 16] == ["prefill_16"] * (held // 16)
    assert calls[held // 16] == "step"
    given = {"prompt": given["prompt"], "length": 20, "seed": 2}
    assert "".join(ran.stream(**given)) == "".join(model.stream(**given))


@pytest.fixture(scope="module")
def long_reader(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = zoo.GPT("abc", window=40, width=8, depth=1, heads=2)
    model.set_weights([5 * w for w in model.get_weights()])
    folder = tmp_path_factory.mktemp("gpt") / "gpt"
    with pytest.MonkeyPatch.context() as patch:  # As of a large one: two signatures.
        patch.setattr(gpt, "LARGEST", 8 * model.count_params())
        model.export(folder, "litert", verbose=False)
    return model, Exported(folder)


@here
def test_half_and_whole_numbers_take_less_room(tmp_path):
    model, sizes, differences = zoo.VAE(hidden=(256,), latent=8), {}, {}
    for quantize in (None, "float16", "int8-dynamic", "int8"):
        path = tmp_path / f"vae-{quantize}"
        found = model.export(path, "litert", quantize=quantize, verbose=False)
        sizes[quantize] = (path / "model.tflite").stat().st_size
        differences[quantize] = found["generate"]
        ran = Exported(path)
        assert ran.about["quantize"] == quantize
        images = ran.generate(4, seed=1)
        assert np.abs(images - model.generate(4, seed=1)).max() < 0.05
    whole = sizes.pop(None)
    assert sizes["float16"] < 0.52 * whole
    assert max(sizes["int8-dynamic"], sizes["int8"]) < 0.3 * whole
    assert 0 < differences["float16"] < 1e-3 < differences["int8"] < 0.05
    assert differences["float16"] < differences["int8-dynamic"] < 0.05


@here
def test_what_int8_cannot_hold_is_said(tmp_path):
    model, path = build("CharRNN"), tmp_path / "text"
    with pytest.raises(_export.ExportError, match="loop of generate: ask for int8-dy"):
        model.export(path, "litert", quantize="int8", verbose=False)
    assert not os.listdir(tmp_path)
    model.export(path, "litert", quantize="int8-dynamic", verbose=False)
    ran = Exported(path)
    assert len(ran.generate(2, seed=0, length=30)[0]) == 30
    for wrong, text in (
        ({"labels": 3}, "no condition 'labels'; it takes length, prompt, temperature"),
        ({"prompt": "ï"}, "prompt has .'ï'., not among"),
        ({"length": 0}, "length is a whole number from 1"),
        ({"temperature": -1}, "temperature is 0 or more, not -1"),
    ):
        with pytest.raises(ValueError, match=text):
            list(ran.stream(**wrong))
    with pytest.raises(ValueError, match="has no signature 'encode'; it has generate"):
        ran.call("encode")
    with pytest.raises(ValueError, match="step takes symbol, .*, not symbol"):
        ran.call("step", symbol=[1])
    state = {k: v for k, v in ran.call("step", **ran.start()).items() if "state" in k}
    with pytest.raises(ValueError, match=r"symbol of step has the shape \(N\)"):
        ran.call("step", symbol=[[1]], **state)
    with pytest.raises(ValueError, match="symbol of step lies in 0 to 4"):
        ran.call("step", symbol=[9], **state)


@here
def test_weights_that_stay_float_are_named(tmp_path, capsys):
    model = zoo.VAE([8, 8, 1], 3, hidden=[4])
    model.export(tmp_path / "vae", "litert", quantize="int8-dynamic")
    assert "Stayed float32: " in capsys.readouterr().out  # Too small to gain by it.


@here
def test_a_solver_of_fewer_steps(tmp_path):
    model = build("DDPM-classes")
    model.export(tmp_path / "ddpm", "litert", steps=2, verbose=False)
    ran = Exported(tmp_path / "ddpm")
    given = {"labels": [2, 0], "guidance": 2.0}
    expected = model.generate(2, seed=5, steps=2, **given)
    found = ran.generate(2, seed=5, **given)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for wrong in (3, -1, 0.5, np.nan):
        with pytest.raises(ValueError, match="labels of generate lies in 0 to 2"):
            ran.generate(1, labels=wrong)


@here
def test_saved_models_keep_some_sizes_of_batch(tmp_path):
    model = build("VAE-classes")
    found = model.export(tmp_path / "vae", verbose=False)
    assert list(found)[:3] == ["generate", "generate_8", "generate_32"]
    given = inputs(model, 8, seed=7)
    images = runner(tmp_path / "vae")("generate_8", **given)["output"]
    np.testing.assert_allclose(images, model.generate(8, seed=7), atol=1e-5)


@here
@formats
def test_weights_read_in_a_loop_come_along(format, tmp_path):
    class Walk(zoo.VAE):
        def sample(self, noise, labels=None):
            def step(_, codes):
                return self.code(self.picture(codes))

            return self.picture(ops.fori_loop(0, 5, step, noise))

    model, path = Walk(**SMALL["VAE"]), tmp_path / "model"
    model.export(path, format=format, batch=2, verbose=False)
    found = runner(path)("generate", noise=model.noise(2, 7))["output"]
    np.testing.assert_allclose(found, model.generate(2, seed=7), atol=1e-5)


@here
@formats
def test_mixed_precision_exports_float32(format, tmp_path):
    plain = build("VAE-convolutional")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("VAE-convolutional")
        model.set_weights(plain.get_weights())
        model.export(tmp_path / "model", format=format, batch=2, verbose=False)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    found = runner(tmp_path / "model")("generate", noise=plain.noise(2, 7))
    np.testing.assert_allclose(found["output"], plain.generate(2, seed=7), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        (
            "m.onnx",
            {"format": "onnx"},
            ValueError,
            "'litert' or 'saved_model', not 'onnx'",
        ),
        ("m.lite", {}, ValueError, "ending in .tflite; m.lite is neither"),
        ("m.tflite", {"format": "saved_model"}, ValueError, "names a LiteRT file"),
        ("m", {"quantize": "int4"}, ValueError, "int8 or None.*'int4' of litert"),
        (
            "m",
            {"quantize": "int8", "format": "saved_model"},
            ValueError,
            "'int8' of saved_model",
        ),
        ("m", {"steps": 3}, ValueError, "steps is of diffusion models; VAE has no"),
        ("m.tflite", {"batch": 0}, ValueError, "1 or more, not 0"),
        ("m.tflite", {"batch": 1.5}, ValueError, "1 or more, not 1.5"),
        ("m.tflite", {"batch": True}, ValueError, "1 or more, not True"),
        (
            "old.tflite",
            {},
            FileExistsError,
            "replaces nothing, and .*old.tflite exists",
        ),
        ("no/m.tflite", {}, FileNotFoundError, "folder that exists; .*no does not"),
    ],
)
def test_a_wrong_request_says_so(name, options, error, text, tmp_path):
    (tmp_path / "old.tflite").write_text("mine")
    with pytest.raises(error, match=text):
        build("VAE").export(tmp_path / name, **{"format": "litert", **options})
    assert os.listdir(tmp_path) == ["old.tflite"]
    assert (tmp_path / "old.tflite").read_text() == "mine"


@pytest.mark.parametrize("missing", ["tensorflow", "ai_edge_litert"])
def test_a_missing_package_is_named_with_its_cure(missing, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == missing else find(name),
    )
    with pytest.raises(ImportError, match=rf"{missing}.*pip install .*\[tensorflow\]"):
        build("VAE").export(tmp_path / "m.tflite", format="litert")


@here
@pytest.mark.parametrize(
    ("format", "extra", "text"),
    [
        ("litert", lambda x, seed: ops.erf(x), r"needs Erf \(in no layer\). Rewrite"),
        (
            "litert",
            lambda x, seed: keras.layers.Activation(ops.erf, name="bent")(x),
            r"this model needs Erf \(in bent_1\). Rewrite",
        ),
        (
            "saved_model",
            lambda x, seed: keras.random.uniform(ops.shape(x), seed=seed),
            "the output of generate differs by",
        ),
        ("litert", lambda x, seed: x * np.nan, "differs by nan"),
    ],
    ids=["operator", "operator of a layer", "random state", "nan"],
)
def test_a_failure_leaves_nothing_behind(format, extra, text, tmp_path):
    class Odd(zoo.VAE):
        def sample(self, noise, labels=None):
            images = super().sample(noise, labels)
            return images + extra(images, self.seed)

    with pytest.raises(_export.ExportError, match=text):
        Odd(**SMALL["VAE"]).export(tmp_path / "model", format=format)
    assert not os.listdir(tmp_path)


def test_other_backends_export_only_what_another_process_can_build(
    tmp_path, monkeypatch
):
    class Mine(zoo.VAE):
        pass

    monkeypatch.setattr(_backend, "NAME", "jax")
    with pytest.raises(_export.ExportError, match="Mine needs .*KERAS_BACKEND=tensor"):
        Mine(**SMALL["VAE"]).export(tmp_path / "m.tflite", format="litert")
    assert not os.listdir(tmp_path)


def test_a_process_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(_backend, "NAME", "jax")
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, -9, "", "no memory"),
    )
    with pytest.raises(_export.ExportError, match="exit status -9 (.|\n)*no memory"):
        build("VAE").export(tmp_path / "m.tflite", format="litert")
    assert not os.listdir(tmp_path)


@here
def test_an_error_of_the_other_process_comes_back(tmp_path, monkeypatch):
    def run(command, **_):  # As the process would, in this one: without its 5 s.
        _export._main(*map(str, command[command.index("zoo._export") + 1 :]))

    monkeypatch.setattr(_backend, "NAME", "jax")
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setitem(_export.TOLERANCE, None, -1.0)
    with pytest.raises(_export.ExportError, match="of generate differs by"):
        build("VAE").export(tmp_path / "m.tflite", format="litert")
    assert not os.listdir(tmp_path)


@here
def test_the_command(tmp_path):
    build("VAE-classes").save_preset(tmp_path / "mine", limits="Not for use.")
    command_of = functools.partial(commands.zoo, cwd=tmp_path)
    done = command_of("export", "mine", "--format=litert", "--out=vae", "--batch=2")
    assert done.returncode == 0, done.stderr
    assert "Operators, all built in: " in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Wrote vae, 0.0 MB: generate, encode, decode of mine, ")
    found = runner(tmp_path / "vae")(
        "decode", codes=np.zeros((2, 3), "float32"), labels=np.array([2, 0], "int32")
    )
    assert found["output"].shape == (2, 8, 8, 1)
    about = json.loads((tmp_path / "vae" / "model.json").read_text("utf-8"))
    assert (about["preset"], about["limits"]) == ("mine", "Not for use.")
    guide = (tmp_path / "vae" / "README.md").read_text("utf-8")
    for text in (
        "not run on a device",
        "```kotlin",
        "```swift",
        '"noise"',
        "IntArray(2)",
    ):
        assert text in guide
    done = command_of("run", "vae", "--labels=0,2,1", "--out=three.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Wrote three.png, 3 samples of vae in ")
    done = command_of("generate", "mine", "--labels=0,2,1", "--out=keras.png")
    assert (tmp_path / "three.png").read_bytes() == (
        tmp_path / "keras.png"
    ).read_bytes()
    for arguments, text in (
        (("export", "mine", "--out=vae"), "An export replaces nothing, and "),
        (("export", "mine", "--format=onnx", "--out=x"), "'saved_model', not 'onnx'."),
        (("run", "mine"), "mine is no export: it has no model.json"),
        (("run", "vae", "--labels=7"), "labels of generate lies in 0 to 2"),
        (("run", "vae", "--prompt=a"), "no condition 'prompt'; it takes labels."),
    ):
        done = command_of(*arguments)
        assert done.returncode == 1
        assert text in done.stderr


@here
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_an_export_runs_without_keras_and_in_little_memory(tmp_path):
    zoo.load("vae-mnist").export(tmp_path / "vae", "litert", verbose=False)
    zoo.load("ngram-shakespeare").export(tmp_path / "text", "litert", verbose=False)
    script = """
import re, sys
from zoo._run import Exported
images = Exported("vae").generate(64, seed=0)
print("".join(Exported("text").stream(seed=1, prompt="ROMEO:", length=30)))
heavy = {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
peak = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
print(heavy or "none", images.shape, 1024 * int(peak))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    expected = zoo.load("ngram-shakespeare").generate(
        seed=1, prompt="ROMEO:", length=30
    )[0]
    assert "\n".join(text) == expected.removeprefix("ROMEO:")
    assert last.startswith("none (64, 28, 28, 1) ")
    assert int(last.split()[-1]) < 150e6


@here
def test_a_saved_model_needs_no_keras(tmp_path):
    build("DDPM-classes").export(tmp_path / "ddpm", batch=2, verbose=False)
    script = """
import sys
sys.modules["keras"] = sys.modules["zoo"] = None  # An import of either fails.
import numpy as np, tensorflow as tf
reference = np.load("ddpm/reference.npz")
call = tf.saved_model.load("ddpm/1").signatures["generate"]
start = "generate.input."
given = {k.removeprefix(start): reference[k] for k in reference if start in k}
found = call(**{k: tf.constant(v) for k, v in given.items()})["output"]
print(np.abs(found - reference["generate.output.output"]).max())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5


def test_an_export_that_was_changed_is_refused(tmp_path):
    about = {"format": "litert", "file": "model.tflite", "sha256": "0" * 64}
    (tmp_path / "model.json").write_text(json.dumps(about), "utf-8")
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match="not the file that model.json describes"):
        Exported(tmp_path)
    (tmp_path / "model.json").write_text('{"format": "saved_model", "file": "1"}')
    with pytest.raises(ValueError, match="is a saved_model: TensorFlow Serving"):
        Exported(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match="is no export"):
        Exported(tmp_path)


def test_the_table_tells_caches_that_are_alike_at_once():
    caches = {f"{kind}{i}": np.zeros((1, 4)) for i in range(3) for kind in ("k", "v")}
    arrays = {"symbol": np.zeros(1, "int32"), **caches, "v3": np.zeros(2), "x_0": 1.0}
    told = _export._shapes({k: np.asarray(v) for k, v in arrays.items()})
    assert told == (
        "symbol int32 [1], k0…2 float64 [1, 4], v0…2 float64 [1, 4], v3 float64 [2], "
        "x_0 float64 []"
    )
