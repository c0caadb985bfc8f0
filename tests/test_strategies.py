"""Several devices end at the weights of one, and a run of several survives a kill.

Each case runs in a process of its own, since devices are counted once in a process.
"""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from zoo.trainers import strategies

BACKEND = keras.backend.backend()
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Trains a VAE whose noise is the same for every row, and two players with batch
# normalisation on rows that are mirrored, so that each half of a batch has the mean and
# variance of all of it. Arguments: file, strategy, devices, XLA.
PROGRAM = """
import json, os, sys
import keras, numpy as np
from keras import ops
file, strategy, devices, jit = sys.argv[1:]
devices, jit = int(devices), json.loads(jit)
same = lambda value: lambda shape, *a, seed=None, **k: ops.ones(shape) * value
import zoo
from zoo.trainers import strategies
from zoo.trainers.data import Batches, Data
place = strategies.enter(strategy, devices if strategy != "none" else None)
arrays, logs = {}, {}
with place.scope:
    from test_backend import Duel
    def run(name, model, optimizer, rows):
        generator = np.random.default_rng(1)
        for w in model.weights:
            if "variance" not in w.path:
                w.assign(generator.normal(size=w.shape) * 0.2)
        model.compile(optimizer, jit_compile=jit)
        shared = place.replicas, place.process, place.processes
        batches = Batches(Data(rows), 8, None, *shared)
        logs[name] = model.fit(batches, epochs=2, verbose=0, shuffle=False).history
        from zoo._backend import whole_array
        for i, w in enumerate(model.weights):
            arrays[f"{name}{i}"] = whole_array(w)
    normal, uniform = keras.random.normal, keras.random.uniform
    keras.random.normal, keras.random.uniform = same(0.3), same(0.5)
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(34, 4, 4, 1)).astype("float32")[:32]
    adam = keras.optimizers.Adam(1e-2, global_clipnorm=1.0, use_ema=True)
    run("vae", zoo.VAE([4, 4, 1], 4, [8]), adam, images)
    keras.random.normal, keras.random.uniform = normal, uniform
    rows = generator.normal(size=(8, 4, 2)).astype("float32")[::2]
    rows = np.concatenate([np.concatenate([r, 2 * r.mean(0) - r]) for r in rows])
    adam, sgd = keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.1)
    run("duel", Duel(), {"critic": adam, "maker": sgd}, rows)
    if place.chief:
        np.savez(file, logs=json.dumps(logs), replicas=place.replicas, **arrays)
"""


def environment(**more):
    path = os.pathsep.join([os.path.join(REPOSITORY, "tests"), *sys.path])
    told = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return told | {key: str(value) for key, value in more.items()}


def run(tmp_path, strategy, devices, jit="auto", name="out"):
    command = [sys.executable, "-c", PROGRAM, tmp_path / name, strategy, devices]
    done = subprocess.run(
        [*map(str, command), json.dumps(jit)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / f"{name}.npz")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), "none", 1)


def assert_same(one, other, replicas):
    assert int(other["replicas"]) == replicas
    for name in one.files:
        if name not in ("logs", "replicas"):
            np.testing.assert_allclose(other[name], one[name], atol=2e-6, err_msg=name)
    first, second = (json.loads(str(file["logs"])) for file in (one, other))
    for model, history in first.items():
        for key, values in history.items():
            np.testing.assert_allclose(second[model][key], values, rtol=1e-5)


CASES = {
    "tensorflow": [("mirrored", 2, True), ("mirrored", 2, False)],
    "jax": [("data_parallel", 4, True), ("model_parallel", 2, True)],
    "torch": [],
}


@pytest.mark.parametrize(("strategy", "devices", "jit"), CASES[BACKEND] or [(0, 0, 0)])
def test_several_devices_end_at_the_weights_of_one(
    one, tmp_path, strategy, devices, jit
):
    if not strategy:
        pytest.skip("torch runs one process for each device: see the test of processes")
    replicas = 1 if strategy == "model_parallel" else devices
    assert_same(one, run(tmp_path, strategy, devices, jit), replicas)


def test_two_processes_end_at_the_weights_of_one(one, tmp_path):
    strategy = {"jax": "data_parallel", "torch": "ddp"}.get(BACKEND)
    if not strategy:
        pytest.skip("several processes train on JAX and torch")
    command = [PROGRAM, str(tmp_path / "out"), strategy, "1", '"auto"']
    launcher = (
        "import sys; from zoo.trainers import strategies;"
        "sys.exit(strategies.launch([sys.executable, '-c', *sys.argv[2:]], 2, "
        "sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher, strategy, *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert_same(one, np.load(tmp_path / "out.npz"), 2)


def test_each_backend_says_which_strategies_it_has():
    wrong = "ddp" if BACKEND != "torch" else "mirrored"
    with pytest.raises(ValueError, match=f"runs on .*; Keras is on {BACKEND}, which"):
        strategies.enter(wrong)
    with pytest.raises(ValueError, match="--workers is for ddp"):
        strategies.workers("none", None, 2)


def test_a_batch_that_cannot_be_divided_is_refused():
    from zoo.trainers.data import Batches, Data, DataError

    rows = Data(np.zeros((9, 1)))
    with pytest.raises(DataError, match="divided among 2 devices; the batch size is 3"):
        Batches(rows, 3, replicas=2)
    shares = [Batches(rows, 4, None, 2, process, 2) for process in (0, 1)]
    assert [len(share[1][0]) for share in shares] == [2, 2]
    assert len(shares[0]) == 2


def test_several_hosts_on_tensorflow_are_refused_with_the_way_out():
    if BACKEND != "tensorflow":
        pytest.skip("MultiWorkerMirroredStrategy is TensorFlow's")
    import tensorflow as tf

    import zoo

    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        model = zoo.VAE([4, 4, 1], 2, [4])
        with pytest.raises(ValueError, match="Several hosts train on JAX"):
            model.compile("adam")


def test_accumulation_under_mirrored_is_refused_with_the_way_out():
    if BACKEND != "tensorflow":
        pytest.skip("MirroredStrategy is TensorFlow's")
    code = """
import keras, numpy as np
from zoo.trainers import strategies
place = strategies.enter("mirrored", 2)
with place.scope:
    import zoo
    model = zoo.VAE([4, 4, 1], 2, [4])
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    model.fit(np.zeros((4, 4, 4, 1), "float32"), batch_size=2, verbose=0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "take a larger batch, or JAX or torch." in done.stderr


def test_replicas_draw_noise_of_their_own(tmp_path):
    """The mean over replicas of a draw is no single draw, and seeds stay in step."""
    if BACKEND != "tensorflow":
        pytest.skip("JAX draws for the whole batch; torch folds its rank in likewise")
    code = """
import keras, numpy as np, sys
from keras import ops
from zoo.trainers import strategies
from zoo._model import Model
class Draw(Model):
    def __init__(self):
        super().__init__()
        self.a = self.add_weight((), "zeros")
        self.seed = keras.random.SeedGenerator(3)
        self.built = True
    def objective(self, x):
        return self.a * keras.random.normal((), seed=self.seed) * ops.mean(x)
place = strategies.enter("mirrored", 2)
with place.scope:
    model = Draw()
    model.compile(keras.optimizers.SGD(1.0))
    seed = ops.convert_to_numpy(model.seed.state)
    model.fit(np.ones((2, 1), "float32"), batch_size=2, verbose=0)
drawn = [
    float(keras.random.normal((), seed=keras.random.SeedGenerator(3 + r * 1_000_003)))
    for r in range(2)
]
np.testing.assert_allclose(float(model.a.numpy()), -np.mean(drawn), rtol=1e-5)
assert drawn[0] != drawn[1]
np.testing.assert_array_equal(ops.convert_to_numpy(model.seed.state), seed + [0, 1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow trains in one process")
@pytest.mark.once  # What starts and watches workers knows no backend.
def test_a_killed_worker_ends_the_run_and_the_same_command_resumes(tmp_path):
    """Two workers; one is killed; the resumed run ends as an unbroken one does."""
    strategy = {"jax": "data_parallel", "torch": "ddp"}[BACKEND]
    pytest.importorskip("PIL", reason="needs pillow, in [data]")
    import zoo
    from zoo._png import save_grid

    (tmp_path / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for i in range(24):
        image = generator.uniform(size=(1, 8, 8, 1))
        save_grid(tmp_path / "pictures" / f"{i}.png", image, 1)
    keras.utils.set_random_seed(0)
    model = zoo.VAE([8, 8, 1], 2, [16])
    recipe = {"data": str(tmp_path / "pictures"), "batch_size": 8, "epochs": 15}
    vars(model)["recipe"] = recipe
    model.save_preset(tmp_path / "seed")

    def command(out):
        words = ["train", "--preset", "seed", "--out", out, "--resume"]
        words += ["--strategy", strategy, "--workers", "2"]
        return [sys.executable, "-m", "zoo.tools.main", *words]

    common = {"cwd": tmp_path, "env": environment(), "text": True}
    common |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command("broken"), **common)
    stop = time.monotonic() + 120
    while not list(tmp_path.glob("broken/checkpoints/00001-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < stop
        time.sleep(0.02)
    kill_a_worker(process.pid)
    said, warned = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL, said + warned
    assert "Worker 1 of 2 ended by SIGKILL, so the others were stopped." in warned
    for out in ("broken", "whole"):
        done = subprocess.run(command(out), timeout=300, **common)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("Going on from" in done.stdout) == (out == "broken")
    first, second = (zoo.load(tmp_path / name) for name in ("whole", "broken"))
    for one, two in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(one, two)


def kill_a_worker(parent):
    """Kill the child of a process that has the highest rank."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                of = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{name}/environ") as file:
                told = file.read().split("\0")
        except OSError:
            continue
        if of == parent and {"RANK=1", "KERAS_DISTRIBUTION_PROCESS_ID=1"} & {*told}:
            os.kill(int(name), signal.SIGKILL)
            return
    raise AssertionError("no worker was found")
