"""Training survives: kills, signals, full disks, damage, and numbers that explode."""

import os
import random
import resource
import signal
import time

import commands
import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo._model import Model
from zoo.trainers import checkpoints
from zoo.trainers.data import Batches, Data, DataError, open_data

PIL = pytest.importorskip("PIL.Image", reason="needs pillow, in [data]")

# Checkpoints come every PAUSE seconds; the save numbered FATAL is cut by SIGKILL when
# half of the file is written.
FIRST = """
import os, signal
import numpy as np
import zoo.trainers.checkpoints as checkpoints
checkpoints.SECONDS = PAUSE
save, count = np.savez, [0]
def cut(file, **arrays):
    save(file, **arrays)
    count[0] += 1
    if count[0] == FATAL:
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)
np.savez = cut
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A small VAE to train with averages, clipping and warmup, on 48 pictures."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for i in range(48):
        pixels = generator.integers(0, 255, (8, 8), "uint8")
        PIL.fromarray(pixels).save(folder / "pictures" / f"{i:02}.png")
    keras.utils.set_random_seed(0)
    model = zoo.VAE([8, 8, 1], 2, [16])
    vars(model)["recipe"] = {
        "data": str(folder / "pictures"),
        "batch_size": 8,
        "epochs": 12,
        "schedule": {"name": "cosine", "warmup": 0.1},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-2,
            "global_clipnorm": 5.0,
            "use_ema": True,
        },
    }
    model.save_preset(folder / "seed")
    return folder


def start(folder, out, *arguments, fatal=0, pause=600.0):
    command = ["train", "--preset", "seed", "--out", out, "--resume", *arguments]
    first = FIRST.replace("PAUSE", str(pause)).replace("FATAL", str(fatal))
    return commands.Command(*command, cwd=folder, first=first)


def train(*arguments, code=0, **options):
    command = start(*arguments, **options)
    assert command.wait(300) == code, command.said()
    return "".join(command.said())


@pytest.fixture(scope="module")
def uninterrupted(workshop):
    commands.zoo("list")  # Once, what they are copies of takes seconds.
    begun = time.monotonic()
    train(workshop, "whole")
    return time.monotonic() - begun


def state(folder):
    """Every array of the newest checkpoint, and what it says."""
    path = sorted((folder / "checkpoints").glob("0*.npz"))[-1]
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def assert_same(folder, out):
    whole, other = state(folder / "whole"), state(folder / out)
    assert whole.keys() == other.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], other[name])
    logs = [(folder / name / "log.csv").read_text() for name in ("whole", out)]
    assert logs[0] == logs[1]
    first, second = (zoo.load(folder / name) for name in ("whole", out))
    for one, two in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(one, two)


def test_killed_in_the_midst_of_a_save_and_of_an_epoch(workshop, uninterrupted):
    # One epoch has six steps and saves, so the tenth is that of its fourth step.
    train(workshop, "cut", fatal=10, pause=0, code=-signal.SIGKILL)
    folder = workshop / "cut" / "checkpoints"
    assert list(folder.glob(".*.part"))
    names = sorted(path.name for path in folder.glob("0*.npz"))
    assert names == ["00001-0000002.npz", "00001-0000003.npz"]
    said = train(workshop, "cut")
    assert "Going on from cut/checkpoints/00001-0000003.npz: 1 epochs and 3" in said
    assert not list(folder.glob(".*.part"))
    assert_same(workshop, "cut")


@pytest.mark.slow
def test_killed_at_random_moments(workshop, uninterrupted):
    chance = random.Random(os.getpid())
    for kill in range(5):
        command = start(workshop, "random", pause=0.05)
        if command.wait(chance.uniform(0.3, 1.0) * uninterrupted) is None:
            command.process.kill()
            command.wait()
        print(f"kill {kill}: {sorted((workshop / 'random').rglob('0*.npz'))}")
    train(workshop, "random")
    assert_same(workshop, "random")


@pytest.mark.once
def test_sigterm_saves_and_exits_143(workshop, uninterrupted):
    command = start(workshop, "asked")
    while "Epoch 3/12" not in command.said()[0]:
        assert command.wait(0.02) is None, command.said()
    command.process.terminate()
    assert command.wait(300) == 143, command.said()
    said = "".join(command.said())
    assert "Stopped by SIGTERM; the same command with --resume goes on." in said
    train(workshop, "asked")
    assert_same(workshop, "asked")


def fitted(folder, epochs, model=None, resume=False):
    """Train a two-player model with Checkpoint; return model and callback."""
    from test_backend import Duel

    keras.utils.set_random_seed(1)
    model = model or Duel()
    sgd, adam = keras.optimizers.SGD, keras.optimizers.Adam
    model.compile({"critic": sgd(0.1, momentum=0.9), "maker": adam(1e-2)})
    rows = np.random.default_rng(0).normal(size=(24, 2)).astype("float32")
    batches = Batches(Data(rows), 8, seed=0)
    done, *rest = checkpoints.restore(model, folder, {"a": 1}) if resume else (0, 0)
    saving = checkpoints.Checkpoint(folder, {"a": 1}, "critic", True, *rest)
    model.fit(
        batches,
        initial_epoch=done,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[batches.follow(), saving],
    )
    return model, saving


def test_two_optimizers_and_batch_normalisation_resume_exactly(tmp_path, capsys):
    whole, _ = fitted(tmp_path / "whole", 6)
    fitted(tmp_path / "parts", 3)
    assert "MB in" in capsys.readouterr().out
    parts, _ = fitted(tmp_path / "parts", 6, resume=True)
    first, second = state(tmp_path / "whole"), state(tmp_path / "parts")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert len(first) > 20
    logs = (model.history.history["critic"] for model in (whole, parts))
    np.testing.assert_array_equal(*(log[-3:] for log in logs))


def test_the_two_newest_and_the_best_are_kept(tmp_path):
    _, saving = fitted(tmp_path, 5)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00004-0000000.npz", "00005-0000000.npz", "best.npz"]
    model, _ = fitted(tmp_path / "other", 1)
    epoch = checkpoints.take_best(model, tmp_path)
    assert 1 <= epoch <= 5
    assert checkpoints.take_best(model, tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_costs_one_epoch_only(tmp_path, capsys, damage):
    whole, _ = fitted(tmp_path / "whole", 4)
    fitted(tmp_path / "hurt", 3)
    path = tmp_path / "hurt" / "checkpoints" / "00003-0000000.npz"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        at = data.index(b"NUMPY", len(data) // 2) + 140  # Within an array.
        data[at] ^= 64
    path.write_bytes({"cut": data[:-90], "empty": b""}.get(damage, data))
    fitted(tmp_path / "hurt", 4, resume=True)
    said = capsys.readouterr()
    assert "00003-0000000.npz is damaged" in said.err
    assert "Going on from" in said.out
    first, second = state(tmp_path / "whole"), state(tmp_path / "hurt")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_nothing_but_damage_is_an_error(tmp_path):
    model, _ = fitted(tmp_path, 2)
    for path in (tmp_path / "checkpoints").glob("0*"):
        path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="No checkpoint in .* can be read"):
        checkpoints.restore(model, tmp_path, {"a": 1})


def test_another_recipe_is_refused_with_the_difference(tmp_path):
    model, _ = fitted(tmp_path, 1)
    before = [ops.convert_to_numpy(v) for v in model.variables]
    with pytest.raises(ValueError, match="a: 1 there, 2 asked for; b: None there, 3"):
        checkpoints.restore(model, tmp_path, {"a": 2, "b": 3})
    other = zoo.VAE([8, 8, 1], 2, [16])
    other.compile("adam")
    with pytest.raises(ValueError, match="not those of this model"):
        checkpoints.restore(other, tmp_path, {"a": 1})
    for old, variable in zip(before, model.variables):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))


def test_a_full_disk_costs_no_checkpoint_and_no_training(tmp_path, capsys):
    fitted(tmp_path, 2)
    kept = (tmp_path / "checkpoints" / "00002-0000000.npz").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # EFBIG, not ENOSPC.
    try:
        model, _ = fitted(tmp_path, 4, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    said = capsys.readouterr().err
    assert "Warning: no checkpoint, 00003-0000000.npz could not be written" in said
    assert "the last is 00002-0000000.npz" in said
    newest = tmp_path / "checkpoints" / "00002-0000000.npz"
    assert newest.read_bytes() == kept
    assert not list(newest.parent.glob(".*.part"))
    again, _ = fitted(tmp_path, 4, resume=True)
    for one, two in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, two)


class Fragile(Model):
    """y = a x by squared error, with a running sum; a row of 9 makes the loss NaN."""

    def __init__(self):
        super().__init__()
        self.a = self.add_weight((), keras.initializers.Constant(2.0))
        self.total = self.add_weight((), "zeros", trainable=False)
        self.built = True

    def call(self, x):
        return self.a * x

    def objective(self, x):
        self.total.assign_add(ops.sum(x / ops.where(x == 9.0, 0.0, 1.0)))
        broken = ops.where(ops.any(x == 9.0), float("nan"), 1.0)
        return ops.mean((self.a * x - 1.0) ** 2) * broken


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_an_update_that_is_not_finite_is_skipped_whole_and_counted(policy):
    """The run with two broken batches ends where the run without them ends."""
    rows = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
    broken = rows.copy()
    broken = np.insert(broken, [4, 8], 9.0, axis=0)
    results = []
    for data in (rows, broken):
        model = Fragile()
        optimizer = keras.optimizers.Adam(0.1, use_ema=True)
        if policy == "mixed_float16":
            # A scale that NaN halves, but which moves nothing else.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer)
        history = model.fit(
            data[..., None], batch_size=1, shuffle=False, verbose=0
        ).history
        results.append([ops.convert_to_numpy(v) for v in model.variables])
        results[-1] += [history["loss"][0]]
        assert history["skipped"] == [0.0 if data is rows else 2.0]
    for one, two in zip(*results):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_too_many_skipped_updates_stop_with_where_and_what():
    model = Fragile()
    vars(model)["recipe"] = {"skip_limit": 3}
    model.compile("sgd")
    rows = np.ones((40, 4, 1), "float32")
    rows[12:20] = 9.0
    with pytest.raises(
        FloatingPointError,
        match=r"Epoch 1, before step \d\d: [4-8] updates .* \(loss [4-8]; the first "
        r"in step 13\); 3 are allowed",
    ):
        model.fit(rows, batch_size=1, shuffle=False, verbose=0)
    assert np.isfinite(model.get_weights()[0])


def test_a_second_fit_with_averages(tmp_path):
    """Keras on JAX gives weight and average one array, which XLA then frees twice."""
    model = Fragile()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True))
    rows = np.ones((4, 1, 1), "float32")
    model.fit(rows, verbose=0)
    model.fit(rows, verbose=0)
    assert np.isfinite(model.get_weights()[0])


def pictures(folder, good, bad):
    folder.mkdir()
    for i in range(good):
        PIL.fromarray(np.full((8, 8), i, "uint8")).save(folder / f"{i:03}.png")
    for i in range(bad):
        (folder / f"{i:03}x.png").write_bytes(b"\x89PNG no picture")


def test_a_damaged_record_is_skipped_counted_and_named(tmp_path, capsys):
    pictures(tmp_path / "some", 12, 3)
    data = open_data(tmp_path / "some", "train", (8, 8, 1))
    images = data[np.arange(15)][:, 0, 0, 0]
    # 000, 000x, 001, 001x, 002, 002x, 003 …: each gives its place to the next.
    assert images.tolist() == [0, 1, 1, 2, 2, 3, *range(3, 12)]
    assert len(data.damaged) == 3
    said = capsys.readouterr().err
    assert "000x.png, 1 of at most 10: cannot identify image" in said
    data[np.arange(15)]
    assert not capsys.readouterr().err
    pictures(tmp_path / "many", 20, 11)
    data = open_data(tmp_path / "many", "train", (8, 8, 1))
    with pytest.raises(DataError, match="11 of 31 records cannot be read, and 10 may"):
        data[np.arange(31)]
    pictures(tmp_path / "none", 0, 2)
    with pytest.raises(DataError, match="2 of 2 records cannot be read"):
        open_data(tmp_path / "none", "train", (8, 8, 1))[:1]


def test_labels_follow_when_a_record_is_skipped(tmp_path):
    for i, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        PIL.fromarray(np.full((8, 8), i, "uint8")).save(tmp_path / name / "1.png")
    (tmp_path / "a" / "0.png").write_bytes(b"")
    (tmp_path / "a" / "2.png").write_bytes(b"")
    data = open_data(tmp_path, "train", (8, 8, 1), labels=True)
    images, labels = data[np.arange(4)]
    assert images[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert labels.tolist() == [0, 0, 1, 1]
