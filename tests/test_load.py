"""`generate` under load: many calls, many threads, many mistakes."""

import functools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import zoo
from zoo import _model

BACKEND = keras.backend.backend()
TRACES = BACKEND != "torch"  # There, each call runs the Python code anew.

both = pytest.mark.parametrize("classes", [None, 3])


def build(classes=None, seed=0):
    """The same weights for the same seed."""
    keras.utils.set_random_seed(seed)
    return zoo.VAE((8, 8, 1), latent=3, hidden=[16], classes=classes)


def inputs(classes, num):
    """Images, and labels where there are classes."""
    images = np.random.default_rng(num).random((num, 8, 8, 1), dtype="float32")
    return (images, np.arange(num) % classes) if classes else (images,)


@pytest.fixture
def traced(monkeypatch):
    """The batch of each call of the Python code of `sample`."""
    batches, original = [], zoo.VAE.sample

    def sample(self, noise, labels=None):
        batches.append(noise.shape[0])
        return original(self, noise, labels)

    monkeypatch.setattr(zoo.VAE, "sample", sample)
    return batches


@pytest.mark.skipif(not TRACES, reason="torch compiles nothing")
def test_a_thousand_calls_of_mixed_sizes_compile_at_most_eight(traced):
    model = build(classes=3)
    for seed, share in enumerate(np.random.default_rng(0).random(1000)):
        num = round(1000**share)
        assert len(model.generate(num, seed=seed)) == num
    assert sorted(traced) == [1, 4, 16, 64, 256]
    assert len(model._functions) <= 8


def jobs(model, classes):
    """Calls of every verb, in sizes that share buckets and that do not."""
    yield from (
        (model.generate, (num, seed)) for num in (1, 3, 4, 20, 300) for seed in (0, 1)
    )
    for num in (3, 4):
        data = inputs(classes, num)
        yield from ((verb, data) for verb in (model.encode, model.reconstruct))
        yield model.decode, (np.ones((num, 3)), *data[1:])
        yield functools.partial(model.score, samples=10), data


@both
def test_sixteen_threads_get_the_answers_of_one(classes, traced):
    alone, shared = build(classes), build(classes)
    answers = [verb(*given) for verb, given in jobs(alone, classes)]
    order, batches = list(enumerate(jobs(shared, classes))), sorted(traced)
    traced.clear()
    together = threading.Barrier(16)

    def work(first):
        together.wait()  # So that the first calls meet.
        turn = order[first:] + order[:first]
        return {at: verb(*given) for at, (verb, given) in turn}

    with ThreadPoolExecutor(16) as pool:
        for results in pool.map(work, range(16)):
            for at, result in results.items():
                np.testing.assert_array_equal(result, answers[at])
    if TRACES:
        assert sorted(traced) == batches  # Each size once, by whichever thread.


def test_new_weights_are_seen():
    model, (images, labels) = build(classes=3), inputs(3, 3)
    noise, each = map(keras.ops.convert_to_tensor, (model.noise(3, 0), labels))

    def output():
        compiled = model.generate(3, 0, labels=labels)
        eager = keras.ops.convert_to_numpy(model.sample(noise, each))
        np.testing.assert_allclose(compiled, eager, atol=1e-5)
        return compiled

    old = output()
    model.set_weights(build(classes=3, seed=1).get_weights())
    other = output()
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(images, labels, verbose=0)
    assert np.abs(other - old).max() > 1e-3
    assert np.abs(output() - other).max() > 1e-3


@both
def test_calls_work_after_a_failed_first_call(classes, monkeypatch):
    model, original = build(classes), zoo.VAE.sample

    def broken(self, noise, labels=None):
        raise RuntimeError("broken")

    monkeypatch.setattr(zoo.VAE, "sample", broken)
    with ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(model.generate, 2, 0) for _ in range(4)]:
            with pytest.raises(RuntimeError, match="broken"):
                call.result(timeout=60)
    assert not model._functions
    monkeypatch.setattr(zoo.VAE, "sample", original)
    np.testing.assert_array_equal(
        model.generate(2, seed=0), build(classes).generate(2, seed=0)
    )


def test_options_do_not_compile_without_bound(monkeypatch):
    monkeypatch.setattr(_model, "FUNCTIONS", 3)
    model, (images,) = build(), inputs(None, 2)
    noise = np.ones((2, 1, 3), "float32")
    runs = [
        model._run("log_weights", images, noise, beta=beta)
        for beta in (0.0, 0.5, 1.0, 1.5, 2.0, 0.0)
    ]
    assert len(model._functions) == 3
    np.testing.assert_array_equal(runs[0], runs[-1])
    assert (runs[0] != runs[1]).all()


# Mistakes


@pytest.mark.parametrize("num", [True, np.nan, None, [1], np.int8(-3), 10**9])
def test_a_number_that_is_none_is_refused(num):
    with pytest.raises(ValueError, match="num is a whole number from 1 to 100,000"):
        build().generate(num)


@pytest.mark.parametrize("seed", [True, np.True_, -1, 1.5, "x", [1, 2], np.nan])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="seed is a whole number of 0 or more"):
        build().generate(1, seed)


@pytest.mark.parametrize("seed", [2**200, 2**64, np.int64(3), np.uint64(2**63)])
def test_a_seed_is_of_any_size_and_any_type_of_whole_number(seed):
    model = build()
    images = model.generate(np.uint8(200), seed)
    assert len(images) == 200
    np.testing.assert_array_equal(images, model.generate(200, int(seed)))


def test_more_images_than_memory_holds_are_refused():
    model = zoo.VAE((512, 512, 3), latent=2, hidden=[1])
    with pytest.raises(ValueError, match="2,730 samples; 100,000 are 293.0 GiB"):
        model.generate(100_000)


class NoArray:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array")


@pytest.mark.parametrize(
    "labels",
    [
        *(True, [True] * 3, np.nan, [0, np.nan, 1], np.inf, "1", ["0", "1", "2"], b"1"),
        *([0, None, 1], object(), {0: 1}, 10**30, [10**30] * 3, 2**63, 1e300, 1j),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(ValueError, match="labels are whole numbers from 0 to 2, not"):
        build(classes=3).generate(3, labels=labels)


@pytest.mark.parametrize("labels", [[0, [1], 2], NoArray(), [NoArray()]])
def test_labels_that_are_no_array_are_refused(labels):
    with pytest.raises(ValueError, match="labels are an array of numbers, not"):
        build(classes=3).generate(3, labels=labels)


@pytest.mark.parametrize("labels", [[], [[0], [1], [2]], list(range(100_000))])
def test_labels_of_another_length_are_refused_in_few_words(labels):
    with pytest.raises(ValueError, match="one number or 3, one for each") as caught:
        build(classes=3).generate(3, labels=labels)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("labels", [2.0, np.float16(1), range(3), (0.0, 1.0, 2.0)])
def test_labels_are_whole_numbers_of_any_type(labels):
    model = build(classes=3)
    np.testing.assert_array_equal(
        model.generate(3, seed=0, labels=labels),
        model.generate(3, seed=0, labels=np.array(labels, "int32")),
    )


@pytest.mark.parametrize("images", [[[1], [2, 3]], NoArray()])
def test_images_that_are_no_array_are_refused(images):
    with pytest.raises(ValueError, match="images are an array of numbers, not"):
        build().encode(images)


# Memory, in a process of its own: it would hide in what the others hold.

MEMORY = """
import sys
import zoo

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

model = zoo.VAE((8, 8, 1), latent=3, hidden=[16], classes=3)
for call in range(int(sys.argv[2])):
    if call == int(sys.argv[1]):
        before = resident()
    model.generate(1 + call % 4, seed=call)
    if call % 5 == 0:
        try:
            model.generate(3, labels=[0, 1, 3])
        except ValueError:
            pass
print(resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's RSS")
@pytest.mark.parametrize(
    ("first", "last"),
    [(200, 1000), pytest.param(2000, 10_000, marks=pytest.mark.slow)],
)
def test_memory_stays_flat(first, last):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(first), str(last)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # Other tests run beside it.
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 10  # MiB
