"""What models of sequences promise: exact odds, the same text everywhere, even work."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo import _backend
from zoo._draw import drawn
from zoo.recurrent._cells import Recurrent

pytestmark = pytest.mark.maths

ABC = "abc"
MODELS = {
    "lstm": lambda: zoo.CharRNN(ABC, "lstm", [6, 5]),
    "gru": lambda: zoo.CharRNN(ABC, "gru", [6]),
    "ngram": lambda: zoo.NeuralNGram(ABC, context=2, embedding=3, hidden=7),
    "one letter back": lambda: zoo.NeuralNGram(ABC, context=1, embedding=3, hidden=7),
}
each = pytest.mark.parametrize("kind", MODELS)


def build(kind, scale=1.0):
    """A model of large random weights, so that letters depend on others."""
    model, random = MODELS[kind](), np.random.default_rng(1)
    model.set_weights(
        [scale * random.normal(size=w.shape) for w in model.get_weights()]
    )
    return model


@each
def test_the_likelihoods_of_all_texts_sum_to_one(kind):
    texts = ["".join(letters) for letters in itertools.product(ABC, repeat=4)]
    likely = np.exp(4 * build(kind).score(texts))
    assert likely.sum() == pytest.approx(1, abs=1e-5)
    assert likely.max() > 3 / 81  # No letters drawn evenly.


@each
def test_a_letter_depends_on_those_before_it_alone(kind):
    model, text = build(kind), "abcabcab"
    numbers = model.numbers(text)[None]
    logits = model._run("call", numbers)
    for place in range(8):
        turned = numbers.copy()
        turned[0, place] = (turned[0, place] + 1) % 3
        moved = np.abs(model._run("call", turned) - logits).max(axis=(0, 2))
        assert (moved[: place + 1] < 1e-6).all()
        if place < 7:
            assert moved[place + 1] > 1e-4
        reach = getattr(model, "context", 8)
        assert (moved[place + 1 + reach :] < 1e-6).all()


@each
def test_each_letter_is_where_its_number_falls(kind):
    model = build(kind)
    noise, (text,) = model.noise(1, seed=3, length=40), model.generate(1, 3, length=40)
    numbers = model.numbers(text)
    logits = model._run("call", numbers[None])[0]
    edges = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
    expected = (edges <= noise[0, :, None] * edges[:, -1:]).sum(axis=1)
    np.testing.assert_array_equal(numbers, expected)


def test_texts_come_as_often_as_they_are_likely():
    model = build("lstm")
    texts = ["".join(letters) for letters in itertools.product(ABC, repeat=3)]
    found = model.generate(20_000, seed=0, length=3)
    shares = [found.count(text) / 20_000 for text in texts]
    np.testing.assert_allclose(shares, np.exp(3 * model.score(texts)), atol=0.012)


@each
def test_a_prompt_is_kept_and_conditions_what_follows(kind):
    model = build(kind)
    whole = model.generate(400, seed=0, length=1, prompt="acb")
    assert {text[:3] for text in whole} == {"acb"}
    ends = ["acb" + letter for letter in ABC]
    likely = np.exp(4 * model.score(ends) - 3 * model.score("acb"))
    shares = [whole.count(end) / 400 for end in ends]
    np.testing.assert_allclose(shares, likely, atol=0.09)
    each_its_own = model.generate(2, seed=0, length=5, prompt=["a", "bbbb"])
    assert [len(text) for text in each_its_own] == [6, 9]
    assert each_its_own[0] == model.generate(1, seed=0, length=5, prompt="a")[0]


@each
def test_a_stream_is_the_text_in_pieces(kind):
    model = build(kind)
    how = {"seed": 5, "length": 83, "prompt": "cab", "temperature": 0.7}
    pieces = list(model.stream(**how, every=7))
    assert "cab" + "".join(pieces) == model.generate(1, **how)[0]
    assert max(map(len, pieces)) == 7


@each
def test_a_long_score_is_that_of_its_parts(kind):
    """Longer than what is read at once, so the state is carried across."""
    model = build(kind, scale=0.5)
    text = model.generate(1, seed=0, length=1500)[0]
    numbers = model.numbers(text)[None]
    logits = model._run("call", numbers).astype("float64")
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(logits, numbers[..., None], -1).mean()
    assert model.score(text)[0] == pytest.approx(expected, abs=1e-5)


@each
def test_without_temperature_it_is_greedy(kind):
    model = build(kind)
    (text,) = model.generate(1, seed=0, length=30, temperature=0)
    best = model._run("call", model.numbers(text)[None])[0].argmax(axis=1)
    np.testing.assert_array_equal(model.numbers(text), best)
    assert text == model.generate(1, seed=1, length=30, top_k=1)[0]
    assert text == model.generate(1, seed=2, length=30, top_p=1e-6)[0]


def test_the_same_text_on_every_backend():
    """Found once; with these weights no number lies near an edge."""
    model = build("lstm")
    assert model.generate(2, seed=7, length=24, prompt="ab", temperature=0.9) == [
        "abbbcbbbcbbbcbcbaccbccbcbc",
        "abcbcacbbbccabcccbbcbcbbcc",
    ]
    assert build("gru").generate(1, 7, length=24) == ["bccbbbcbbbcbcbaccbccbcbb"]
    assert build("ngram").generate(1, 7, length=24) == ["acccbbcccbccccaccbccccbc"]


def draw(odds, noise, **how):
    """Draw one symbol for each number by NumPy arrays."""
    num = len(noise)
    logits = np.log(np.tile(np.array(odds, "float32"), (num, 1)))
    how = {
        key: np.full(num, value, "int32" if key == "top_k" else "float32")
        for key, value in how.items()
    }
    noise = np.array(noise, "float32")
    return ops.convert_to_numpy(drawn(ops.convert_to_tensor(logits), noise, **how))


def test_numbers_fall_between_the_edges():
    odds = [0.5, 0.25, 0.25]
    np.testing.assert_array_equal(
        draw(odds, [0, 0.49, 0.51, 0.74, 0.76, 1 - 2**-24]), [0, 0, 1, 1, 2, 2]
    )
    assert draw([0.2, 0.8], [0.3], temperature=0.0)[0] == 1


def test_top_k_and_top_p_keep_the_likeliest():
    odds, noise = [0.1, 0.4, 0.2, 0.3], np.linspace(0, 1, 4001)[:-1]

    def shares(**how):
        return np.bincount(draw(odds, noise, **how), minlength=4) / 4000

    every = {"top_k": 4, "top_p": 1.0}
    np.testing.assert_allclose(shares(), odds, atol=1e-3)
    np.testing.assert_allclose(shares(**every), odds, atol=1e-3)
    kept = shares(**{**every, "top_k": 2})
    np.testing.assert_allclose(kept, [0, 4 / 7, 0, 3 / 7], atol=1e-3)
    kept = shares(**{**every, "top_p": 0.69})
    np.testing.assert_allclose(kept, [0, 4 / 7, 0, 3 / 7], atol=1e-3)
    kept = shares(**{**every, "top_p": 0.71})
    np.testing.assert_allclose(kept, [0, 4 / 9, 2 / 9, 3 / 9], atol=1e-3)


def test_the_work_of_a_step_does_not_grow():
    """However long the text, the same few functions are compiled."""
    model = build("lstm")
    model.generate(1, seed=0, length=256)
    compiled = len(model._functions)
    model.generate(1, seed=0, length=2560)
    assert len(model._functions) == compiled


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"prompt": "abxyA"}, "The prompt has 'A' 'x' 'y', not in the vocabulary"),
        ({"prompt": ["a", "b", "c"]}, "one for each sample; these are 3"),
        ({"length": 0}, "length is a whole number from 1"),
        ({"temperature": -1}, "temperature is 0 or more, not -1"),
        ({"temperature": None}, "temperature is 0 or more, not None"),
        ({"top_k": 0}, "top_k is a whole number of 1 or more, or None, not 0"),
        ({"top_p": 1.5}, "top_p is above 0 and at most 1, or None, not 1.5"),
        ({"colour": 1}, "no condition 'colour'; it takes length, prompt"),
    ],
)
def test_wrong_wishes_are_refused(how, text):
    with pytest.raises(ValueError, match=text):
        build("lstm").generate(2, **how)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: zoo.CharRNN("a"), "2 characters or more"),
        (lambda: zoo.CharRNN("abca"), "vocabulary has 'a' more than once"),
        (lambda: zoo.CharRNN(ABC, "rnn"), "a cell of lstm or gru"),
        (lambda: zoo.CharRNN(ABC, hidden=[]), "layers of 1 unit or more"),
        (lambda: zoo.NeuralNGram(ABC, context=0), "context, embedding and hidden of 1"),
        (lambda: zoo.ChoraleRNN(lowest=90, highest=80), "keys from 0 to 127"),
        (lambda: zoo.SpeechRNN(mixture=0), "sizes of 1 or more"),
    ],
)
def test_sizes_that_cannot_be_are_refused(build, text):
    with pytest.raises(ValueError, match=text):
        build()


def test_it_learns_what_is_far_back():
    """The third letter is the first: an LSTM finds it, one letter back does not."""
    letters = np.random.default_rng(0).integers(0, 3, (512, 2))
    windows = np.concatenate([letters, letters[:, :1]], axis=1)
    nats = {}
    for kind in ("lstm", "one letter back"):
        keras.utils.set_random_seed(0)
        model = MODELS[kind]()
        model.compile(keras.optimizers.Adam(0.03))
        model.fit(windows, epochs=30, batch_size=64, verbose=0)
        nats[kind] = -3 * model.score([model.text(row) for row in windows]).mean()
    assert nats["lstm"] == pytest.approx(2 * np.log(3), abs=0.1)
    assert nats["one letter back"] > 2.5 * np.log(3)


def test_all_frames_of_a_chorale_sum_to_one():
    keras.utils.set_random_seed(0)
    model = zoo.ChoraleRNN(voices=2, lowest=60, highest=63, hidden=5)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    keys = range(60, 64)
    frames = [c for n in (0, 1, 2) for c in itertools.combinations(keys, n)]
    pieces = [[list(a), list(b)] for a in frames for b in frames]
    likely = np.exp(2 * model.score(pieces))
    assert likely.sum() == pytest.approx(1, abs=1e-5)
    rolls = model.generate(50, seed=0, length=20)
    assert rolls.shape == (50, 20, 128)
    assert set(np.flatnonzero(rolls.any(axis=(0, 1)))) == set(keys)
    assert rolls.sum(axis=2).max() == 2
    begun = rolls[0, :5]
    more = model.generate(3, seed=1, length=4, prompt=begun)
    np.testing.assert_array_equal(more[:, :5], np.stack([begun] * 3))
    with pytest.raises(ValueError, match="prompt has at most 2 keys .* frame 0 has"):
        model.generate(1, prompt=[[60, 61, 62]])


def test_speech_is_drawn_from_its_own_density():
    """The log p of frames, recomputed by hand for the first step."""
    model = zoo.SpeechRNN(2, 2, bands=2, frames=3, hidden=4, heard=3, mixture=2)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    labels = np.array([[1, 0]], "int32")
    sound = np.zeros((1, 3, 3), "float32")
    sound[0, 0] = [0.3, -0.2, 1]
    found, counted = model._run("call", sound, labels)
    np.testing.assert_array_equal(counted, [[1, 0, 0]])
    state = model.cell.start(1)
    given = model._given(labels[:, 0], labels[:, 1])
    clock = ops.convert_to_tensor([[0.0], [1.0]])  # The first of one frame.
    x = model._inputs(ops.zeros((1, 2)), given, *clock)
    parts = model._split(model.cell.step(x, state)["h"])
    shares, means, deviations = (
        ops.convert_to_numpy(part).astype("float64")[0] for part in parts
    )
    z = (sound[0, 0, :2] - means) / np.exp(deviations)
    each = np.exp(shares) * np.prod(
        np.exp(-0.5 * z**2) / np.exp(deviations) / np.sqrt(2 * np.pi), axis=1
    )
    odds = sum(
        np.array(ops.convert_to_numpy(table.embeddings))[label].astype("float64")
        for table, label in ((model.word_lengths, 1), (model.voice_lengths, 0))
    )
    expected = np.log(each.sum()) + odds[0] - np.log(np.exp(odds).sum())
    assert found[0, 0] == pytest.approx(expected, abs=1e-4)


def test_sounds_are_as_long_as_they_are_likely_to_be():
    model = zoo.SpeechRNN(2, 2, bands=2, frames=4, hidden=4, heard=3, mixture=2)
    model.word_lengths.embeddings.assign(np.log([[1, 2, 3, 4], [8, 1, 1e-9, 1]]))
    made = model._run(
        "sample",
        model.noise(4000, seed=0),
        *model.conditions(4000, labels=0, temperature=1).values(),
    )
    lengths = made[..., -1].sum(axis=1).astype(int)
    shares = np.bincount(lengths, minlength=5)[1:] / 4000
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.06)
    assert (np.diff(made[..., -1], axis=1) <= 0).all()  # None after the end.


def test_speech_goes_on_frame_by_frame():
    model = zoo.SpeechRNN(3, 2, bands=4, frames=6, hidden=4, heard=3, mixture=2)
    given = model.conditions(3, labels=[0, 1, 2], speakers=1).values()
    tensors = [ops.convert_to_tensor(array) for array in given]
    noise, made = model.noise(3, seed=5), []
    frame, state = model.start(3)
    for k in range(6):
        now = {name: ops.convert_to_tensor(v[:, k]) for name, v in noise.items()}
        frame, state = model.step(frame, state, now, *tensors)
        made.append(ops.convert_to_numpy(frame))
    whole = model._run("sample", noise, *given)
    np.testing.assert_allclose(np.stack(made, axis=1), whole, atol=1e-5)


def test_speech_is_scored_a_frame():
    model = zoo.SpeechRNN(3, 2, bands=4, frames=40, hidden=4, heard=3, mixture=2)
    sound = np.sin(np.arange(1280) / 3).astype("float32") / 2
    scores = model.score([sound, sound[:640]], labels=[0, 2], speakers=1)
    rows = np.stack([model.numbers(sound)])
    each, counted = model._run("call", rows, np.array([[0, 1]], "int32"))
    assert counted.sum() == 11  # One for each 128 samples, and the last.
    assert scores[0] == pytest.approx(each.sum() / 11, rel=1e-5)
    model.compile(optimizer="adam")
    data = rows.repeat(8, axis=0), np.array([[0, 1]] * 8, "int32")
    model.fit(*data, epochs=30, verbose=0)
    assert model.score([sound], labels=0, speakers=1)[0] > scores[0] + 0.1
    for wrong in (sound * 3, sound[:0], sound[None], sound * np.nan):
        with pytest.raises(ValueError, match="A sound is"):
            model.score([wrong], labels=0, speakers=1)


def test_speech_takes_words_and_speakers():
    model = zoo.SpeechRNN(3, 2, bands=4, frames=6, hidden=4, heard=3, mixture=2)
    sounds = model.generate(4, seed=0, labels=[0, 1, 2, 0], speakers=1)
    assert len(sounds) == 4
    assert all(np.abs(sound).max() <= 1 for sound in sounds)
    with pytest.raises(ValueError, match="speakers are whole numbers from 0 to 1"):
        model.generate(1, speakers=2)
    with pytest.raises(ValueError, match="temperature is from 0 to 2"):
        model.generate(1, temperature=-1)
    warm, cold = model.generate(2, seed=0, labels=1, temperature=[1, 0])
    assert warm.shape != cold.shape or np.abs(warm - cold).max() > 1e-3


@pytest.mark.skipif(_backend.NAME != "jax", reason="a gradient of our own on JAX alone")
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_gradient_of_a_loop_is_that_of_its_steps(kind, dtype):
    import jax

    cell = Recurrent(3, kind, dtype=dtype)
    random = np.random.default_rng(0)
    half = cell.compute_dtype
    args = (
        random.normal(size=(3, cell.width)).astype(half),
        random.normal(size=cell.width).astype("float32"),
        {k: random.normal(size=(2, 3)).astype("float32") for k in cell.start(1)},
        random.normal(size=(5, 2, cell.width)).astype(half),
    )

    def plain(kernel, bias, state, inputs):
        hidden = []
        for x in inputs:
            past = ops.matmul(state["h"].astype(half), kernel).astype("float32") + bias
            state = cell._next(past, x, state)
            hidden.append(state["h"])
        return ops.stack(hidden), state

    def loss(run):
        def summed(*args):
            hidden, state = run(*args)
            parts = [ops.sum(hidden**3), *(ops.sum(v**2) for v in state.values())]
            return sum(parts)

        return jax.grad(summed, argnums=(0, 1, 2, 3))(*args)

    recur = functools.partial(_backend.recur, cell._next)
    found, expected = loss(recur), loss(plain)
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"atol": 0.15}
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected)):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(np.float32(one), np.float32(other), **near)


@each
def test_beams_find_what_is_likeliest_as_a_whole(kind):
    """Enough of them see all texts; one is greedy; a few are those kept by hand."""
    model = build(kind)
    texts = ["b" + "".join(letters) for letters in itertools.product(ABC, repeat=4)]
    scores = model.score(texts)
    (found,) = model.generate(1, length=4, prompt="b", num_beams=81)
    assert found == texts[scores.argmax()]
    (greedy,) = model.generate(1, length=30, prompt="ca", temperature=0)
    assert model.generate(1, length=30, prompt="ca", num_beams=1) == [greedy]
    beams = ["ca"]
    for _ in range(7):
        texts = [beam + letter for beam in beams for letter in ABC]
        best = np.argsort(-model.score(texts), kind="stable")
        beams = [texts[i] for i in best[:4]]
    assert model.generate(1, length=7, prompt="ca", num_beams=4) == beams[:1]
    prompts = ["", "abcab", "c"]
    each_ = model.generate(3, length=7, prompt=prompts, num_beams=3)
    for prompt, text in zip(prompts, each_):
        assert [text] == model.generate(1, length=7, prompt=prompt, num_beams=3)
    for wrong in ({"num_beams": 0}, {"num_beams": 2, "temperature": 0.5}):
        with pytest.raises(ValueError, match="num_beams is a whole number from 1"):
            model.generate(1, **wrong)
    with pytest.raises(ValueError, match="num_beams is of generate"):
        next(model.stream(num_beams=2))
