"""The benchmark runs, forms its ratios and prints its rows; no test judges a time."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from commands import zoo

import zoo as package
from zoo.tools import (
    _benchmark,
    _benchmark_gan,
    _benchmark_gpu,
    _benchmark_scaling,
    _benchmark_vae,
    benchmark,
)

pytestmark = pytest.mark.once

BACKEND = keras.backend.backend()
REPORT = {
    "title": "A model",
    "rounds": 3,
    "examples": 20_000,
    "machine": {"processor": "A CPU", "cores": 4, "python": "3.11.0", "load": 0.1},
    "versions": {"keras": "3.15.1", "pythae": None},
}


def test_a_ratio_is_formed_within_a_round():
    # The machine is half as fast in the second round: the ratio does not see it.
    row = _benchmark.row("training", "images/s", "jax", [30, 15, 30], [10, 5, 10], 2.5)
    assert (row.value, row.peer, row.ratio, row.met) == (30, 10, 3, True)
    assert row.target == "≥ 2.5 x"


def test_a_ratio_of_times_is_the_inverse():
    row = _benchmark.row("sampling", "ms", "jax", [2.0, 2.0], [1.0, 1.0], least=1)
    assert (row.ratio, row.met) == (0.5, False)


def test_without_a_peer_a_ratio_is_no_verdict():
    row = _benchmark.row("training", "images/s", "jax", [30.0], None, least=2.5)
    assert (row.peer, row.ratio, row.met) == (None, None, None)
    row = _benchmark.row("cold", "s", "jax", [1.0], most=1.5)
    assert (row.target, row.met) == ("≤ 1.5 s", True)


@pytest.mark.parametrize("peer", [True, False])
def test_vae_measures_three_things_on_each_backend(monkeypatch, peer):
    speeds = {"jax": [50.0], "tensorflow": [25.0], "torch": [20.0]}
    times = {"jax": [0.5], "tensorflow": [0.8], "torch": [0.9]}
    if peer:
        speeds["pythae"], times["pythae"] = [18.0], [0.4]
    monkeypatch.setattr(_benchmark_vae, "warm", lambda *_: (speeds, times))
    monkeypatch.setattr(_benchmark_vae, "cold_starts", lambda *_: times)
    setting = _benchmark.Setting(("jax", "tensorflow", "torch"))
    rows = _benchmark_vae.measure(setting)
    assert [row.backend for row in rows] == list(setting.backends) * 3
    assert [row.target for row in rows] == [
        *("≥ 2.5 x", "≥ 1.2 x", None),
        *[None] * 3,
        *["≤ 1.5 s"] * 3,
    ]
    assert [row.met for row in rows[:3]] == [peer or None, peer or None, None]
    cells, note, _ = benchmark.compared(rows, "pythae")
    table = benchmark.text(REPORT, cells, note).splitlines()
    assert "busy" not in "".join(table)
    assert " ".join(table[-10].split()) == "MEASURE BACKEND ZOO PYTHAE RATIO TARGET"
    told = "18.00 2.78 x ≥ 2.5 x met" if peer else "- - ≥ 2.5 x"
    assert table[-9].split() == f"training, images/s jax 50.00 {told}".split()


def test_a_busy_machine_is_named():
    report = {**REPORT, "machine": {**REPORT["machine"], "load": 3.2}}
    assert "busy (load 3.2)" in benchmark.text(report, [("A",)], "")


def test_a_tiny_run_writes_its_rows(tmp_path):
    file = tmp_path / "speed.json"
    sizes = ["--rounds", "1", "--examples", "256"]
    done = zoo("benchmark", "vae", "--backends", BACKEND, *sizes, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "training, images/s" in done.stdout
    assert f"Wrote {file}." in done.stdout
    if not _benchmark.installed("pythae"):
        assert 'pip install "generative-zoo[benchmark]"' in done.stdout
    report = json.loads(file.read_text("utf-8"))
    assert [row["unit"] for row in report["rows"]] == ["images/s", "ms", "s"]
    assert all(row["value"] > 0 for row in report["rows"])
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["keras"] == keras.__version__


def test_plain_pytorch_has_our_networks():
    torch = pytest.importorskip("torch", reason="needs torch, in [torch]")
    model, random = package.DCGAN(r1=0), np.random.default_rng(0)
    generator, critic = _benchmark_gan.networks()
    for ours, theirs in ((model.generator, generator), (model.critic, critic)):
        tensors = [x for x in theirs.eval().state_dict().values() if x.dim()]
        assert ours.count_params() == sum(x.numel() for x in tensors)
        for variable, tensor in zip(ours.weights, tensors):
            value = random.uniform(0.5, 1.5, variable.shape).astype("float32")
            if value.ndim > 1:
                value = 0.1 * value * random.choice([-1, 1], value.shape)
            variable.assign(value)
            if value.shape == (64, 256):
                value = value.T
            elif value.shape == (256, 6272):
                # To places, then channels; there reversed.
                value = value.reshape(256, 7, 7, 128).transpose(3, 1, 2, 0)
            elif value.ndim > 1:
                value = value.reshape(4, 4, -1, value.shape[-1])
                value = value.transpose(3, 2, 0, 1)
            tensor.copy_(torch.from_numpy(value.reshape(tensor.shape)))
    noise = random.standard_normal((5, 64), "float32")
    with torch.inference_mode():
        images = generator(torch.from_numpy(noise))
        logits = critic(images).numpy()
    images = images.permute(0, 2, 3, 1).numpy() / 2 + 0.5
    assert images.std() > 0.1
    assert logits.std() > 0.1
    np.testing.assert_allclose(model._run("sample", noise), images, atol=1e-4)
    np.testing.assert_allclose(model.judge(images), logits, atol=1e-4, rtol=1e-4)


def test_the_operations_of_a_layer_and_of_a_step_are_counted():
    model = package.DCGAN(r1=0)
    turned, out = 7 * 7 * 128 * 64 * 4 * 4, 14 * 14 * 64 * 4 * 4
    first, dense, last = 64 * 256, 256 * 6272, 4 * 4 * 256 * 128 * 4 * 4
    counts = [_benchmark_gan.macs(layer) for layer in model.generator.layers]
    assert list(filter(None, counts)) == [first, dense, turned, out]
    # The critic's layers are these two, backwards, one more, and one number of 4,096.
    g, d = first + dense + turned + out, turned + out + last + 4096
    both = g + 2 * (3 * d - out) + (3 * g - first) + 2 * d
    assert _benchmark_gan.flops(model) == 2 * both


def gan_rows(monkeypatch, chip, **given):
    """Return the rows of answers made up, where nothing compiles but XLA."""
    asked = []

    def contest(setting, place, names, commands, batch=64, dtype="float32"):
        asked.append((place, batch, dtype))
        speeds = {"torch eager": 10.0, "jax": 15.0, "tensorflow": 13.0}
        measured = {name: [speeds[name]] for name in names if name in speeds}
        return dict.fromkeys(commands, measured), {"torch compiled": "not run: why"}

    class Counted(_benchmark.Worker):
        def __init__(self):
            pass

        def ask(self, command):
            return 1e12

        __exit__ = print

    monkeypatch.setattr(_benchmark_gan, "contest", contest)
    monkeypatch.setattr(_benchmark_gan, "gpu", lambda: chip)
    monkeypatch.setattr(_benchmark_gan, "start", lambda *_, **__: Counted())
    setting = _benchmark.Setting(("jax", "tensorflow"), tell=lambda line: None)
    return _benchmark_gan.measure(setting, **given), asked


def test_gan_promises_for_the_best_backend_and_says_what_was_not_run(monkeypatch):
    rows, _ = gan_rows(monkeypatch, None)
    assert [(row.backend, row.value, row.peer, row.target) for row in rows[:8]] == [
        ("torch eager", None, 10, None),
        ("jax", 15, 10, "≥ 1.2 x"),
        ("tensorflow", 13, 10, None),
        ("torch compiled", None, None, None),
        ("torch eager", None, 10, None),
        ("jax", 15, 10, None),
        ("tensorflow", 13, 10, "≥ 1.5 x"),
        ("torch compiled", None, None, None),
    ]
    assert [row.met for row in rows[:8] if row.target] == [True, False]
    cells, _, result = benchmark.compared(rows, "torch")
    assert cells[4][2:] == ("-", "-", "-", "-", "not run: why")
    assert cells[-1][-1] == "not run: no GPU"
    assert result == "1 of 2 targets met."
    alone = _benchmark_gan.lines("training", "images/s", {"jax": [2.0]}, {}, 1.2)
    assert [(row.ratio, row.met) for row in alone] == [(None, None)]


def test_gan_takes_shares_of_the_peak_of_a_gpu_it_knows(monkeypatch):
    rows, asked = gan_rows(monkeypatch, "NVIDIA H200")
    assert {place for place, *_ in asked} == {"gpu"}
    assert [batch for _, batch, dtype in asked if dtype != "float32"] == [64, 2048]
    shares = [row.value for row in rows if row.unit == "%"]
    assert shares == pytest.approx([100 * x / 989 for x in (15, 13, 15, 13)])
    rows, _ = gan_rows(monkeypatch, "NVIDIA X1", peak=100.0)
    assert [row.value for row in rows if row.unit == "%"] == [15, 13, 15, 13]
    rows, _ = gan_rows(monkeypatch, "NVIDIA X1")
    assert rows[-1].note == "not known: say --peak of NVIDIA X1"


@pytest.mark.slow
def test_a_tiny_run_of_gan_goes_on_without_a_compiler(monkeypatch, tmp_path):
    if BACKEND != "tensorflow":
        pytest.skip("trains in five processes: once, under TensorFlow")
    for name, value in [
        ("CXX", str(tmp_path / "none")),
        ("TORCHINDUCTOR_CACHE_DIR", str(tmp_path)),
        ("CUDA_VISIBLE_DEVICES", ""),
    ]:
        monkeypatch.setenv(name, value)
    file = tmp_path / "speed.json"
    sizes = ["--rounds", "1", "--examples", "64", "--json", str(file)]
    done = zoo("benchmark", "gan", "--backends", BACKEND, *sizes)
    assert done.returncode == 0, done.stderr
    assert "not run: no GPU" in done.stdout
    rows = json.loads(file.read_text("utf-8"))["rows"]
    ours = [row for row in rows if row["backend"] == BACKEND]
    assert [row["unit"] for row in ours[:2]] == ["images/s", "ms"]
    assert all(row["value"] > 0 for row in ours)
    if _benchmark.installed("torch"):
        assert "InvalidCxxCompiler" in done.stdout
        assert all(row["ratio"] > 0 for row in ours)


def test_unknown_names_are_refused_with_the_options():
    done = zoo("benchmark", "vea")
    assert done.returncode
    assert "takes one of: vae" in done.stdout + done.stderr
    done = zoo("benchmark", "vae", "--backends", "theano")
    assert done.returncode
    assert "takes what is installed" in done.stdout + done.stderr


def test_a_worker_that_fails_says_why():
    told = pytest.raises(OSError, match="nobody ended while asked to train")
    with (
        _benchmark.Worker("zoo.tools._benchmark_vae", "nobody") as worker,
        told as error,
    ):
        worker.ask("train", epochs=1)
    assert "KeyError" in str(error.value)


def test_all_models_are_timed_on_a_gpu_but_here(monkeypatch):
    unet = {"image_shape": (8, 8, 1), "channels": (4,), "blocks": 1, "attention": ()}
    dit = {"image_shape": (8, 8, 1), "patch": 4, "width": 8, "depth": 1, "heads": 1}
    models = {
        "U-Net": ("DDPM", unet, 4, 1, 2),
        "DiT": ("DiT", dit, 4, 1, 0),
    }
    monkeypatch.setattr(_benchmark, "PAUSE", 0)
    told = []
    setting = _benchmark.Setting((BACKEND,), 1, tell=told.append)
    rows = _benchmark_gpu.measure(setting, models, "cpu", peak=1.0)
    found = {(row.measure, row.unit) for row in rows}
    for dtype in _benchmark_gpu.DTYPES:
        assert (f"training U-Net, {dtype}", "images/s") in found
        assert (f"sampling U-Net, 10 steps, {dtype}", "images/s") in found
        assert (f"training DiT, {dtype}", "images/s") in found
    speeds = {row.measure: row.value for row in rows}
    share = speeds["training DiT, mixed_bfloat16, of the peak"]
    work = 4 * (6 * 12 * 8**2 + 12 * 8 * 4)  # 4 tokens of 8 numbers, one block.
    speed = speeds["training DiT, mixed_bfloat16"]
    assert share == pytest.approx(100 * work * speed / 1e12)
    cells, _, result = _benchmark_gpu.told(rows)
    assert len(cells) == len(rows) + 1
    assert "of the peak" in result
    with pytest.raises(OSError, match="measures a gpu; Keras found a cpu"):
        _benchmark_gpu.measure(setting, {"DiT": models["DiT"]})


def test_what_a_symbol_of_a_gpt_costs():
    work = _benchmark_gpu._work("GPT", _benchmark_gpu.GPT)
    # 6 for each of 124 M weights, and a seventh more for attention over 1,024.
    assert work == pytest.approx(6 * 124e6 * (1 + 1 / 6.6), rel=0.01)
    assert _benchmark_gpu._work("DDPM", _benchmark_gpu.UNET) is None


# A training step of two devices, shortened from what XLA writes.
HLO = """
ENTRY %main (p0: f32[4,2]) -> f32[4,2] {
  %all-reduce.3 = (f32[4,2]{1,0}, bf16[3]{0}, /*index=2*/f32[]) all-reduce(%a, %b, %c)
  %all-reduce-start.1 = f32[5]{0} all-reduce-start(%c), replica_groups={{0,1}}
  %all-reduce-done.1 = f32[5]{0} all-reduce-done(%all-reduce-start.1)
  %reduce-scatter.1 = u8[6]{0} reduce-scatter(%d), dimensions={0}
  %all-gather.1 = f32[8,2]{1,0} all-gather(%e), dimensions={0}
  ROOT %add.1 = f32[4,2]{1,0} add(%all-reduce.3, %f)
}
"""


def test_the_collectives_of_a_compiled_program_are_counted():
    assert _benchmark_scaling.collectives(HLO) == (32 + 6 + 4 + 20 + 6, 1)
    assert _benchmark_scaling.collectives("%add.1 = f32[2]{0} add(%a, %b)") == (0, 0)


def test_a_ring_sends_each_part_twice():
    # Of n parts, each device sends n - 1 to be summed and n - 1 that are sums.
    assert _benchmark_scaling.ring(12, 1) == 0
    assert _benchmark_scaling.ring(12, 2) == 12
    assert _benchmark_scaling.ring(12, 4) == 2 * 3 * 3


def scaling_rows(monkeypatch, **setting):
    """Return the rows of answers made up: two devices are slower by a quarter."""
    speeds = iter([100.0, 75.0, 50.0, 37.5, 100.0, 75.0])

    def ask(backend, devices, setting):
        strategy = "none" if devices == 1 else "ddp"
        answer = {"strategy": strategy, "platform": "cpu", "speed": next(speeds)}
        answer |= {"gradients": 4_000_000, "other": 0}
        answer |= {"reduced": 4_000_004 if devices > 1 else 0, "batch": 2048}
        return [answer]

    monkeypatch.setattr(_benchmark_scaling, "_ask", ask)
    monkeypatch.setattr(_benchmark, "PAUSE", 0)
    return _benchmark_scaling.measure(
        _benchmark.Setting(("torch",), 3, tell=lambda line: None, devices=(1, 2))
    )


def test_a_table_is_a_page_that_names_its_command():
    report = {**REPORT, "benchmark": "export"}
    page = benchmark._markdown(report, [("A", "B"), ("1", "2 x")], "So.", "Good.")
    lines = page.splitlines()
    assert lines[0] == f"# {REPORT['title']}"
    assert lines[2] == "By `zoo benchmark export`."
    assert lines[-3:] == ["| a | b |", "|---|---|", "| 1 | 2 x |"]
    assert {"So.", "Good."} <= set(lines)


def test_scaling_compares_devices_within_a_round(monkeypatch):
    rows = scaling_rows(monkeypatch)
    assert [(row.devices, row.speed, row.ratio) for row in rows] == [
        (1, 100.0, 1.0),
        (2, 75.0, 0.75),
    ]
    cells, note, result = _benchmark_scaling.told(rows)
    assert "simulated" in note
    table = benchmark.text(REPORT, cells, note).splitlines()
    one, two = (" ".join(line.split()) for line in table[-2:])
    assert one == "torch none 1 2,048 100 1.00 x 0.00 0.00"
    assert two == "torch ddp 2 2,048 75 0.75 x 4.00 4.00"
    assert "4,000,000 bytes" in result
    assert "4 bytes on torch" in result
    gathers = [dataclasses.replace(row, other=3, platform="gpu") for row in rows]
    note = _benchmark_scaling.told(gathers)[1]
    assert "up to 3 collectives" in note
    assert "simulated" not in note


def test_scaling_is_drawn_where_matplotlib_is(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib, in [benchmark]")
    _benchmark_scaling.draw(scaling_rows(monkeypatch), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_tiny_step_reduces_its_gradients_and_its_loss(tmp_path):
    file, plot = tmp_path / "scaling.json", tmp_path / "scaling.png"
    sizes = ["--rounds=1", "--examples=4", "--devices=2", "--batch_sizes=4"]
    files = ["--json", str(file), "--plot", str(plot)]
    done = zoo("benchmark", "scaling", "--backends", BACKEND, *sizes, *files)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(file.read_text("utf-8"))["rows"]
    assert row["gradients"] == 4 * 1_379_152
    assert row["reduced"] == row["gradients"] + 4
    assert row["sent"] == row["reduced"]  # Of two devices, each sends all of it.
    assert (row["other"], row["ratio"]) == (0, None)
    assert row["speed"] > 0
    drawn = _benchmark.installed("matplotlib")
    assert plot.exists() == drawn
    assert ('pip install "generative-zoo[benchmark]"' in done.stdout) != drawn


def test_what_passes_the_mean_over_replicas_is_counted(monkeypatch, tmp_path):
    if BACKEND != "torch":
        pytest.skip("a step of two real replicas is counted in the test above")
    from zoo import _backend
    from zoo.trainers import strategies

    monkeypatch.setattr(_backend, "_replicas", lambda: 2)
    monkeypatch.setattr(_backend, "_replica", lambda: 0)
    monkeypatch.setattr(_backend, "_mean", list)
    answer = _benchmark_scaling._train(strategies.enter("none"), 4, 8, tmp_path)
    assert answer["reduced"] == answer["gradients"] + 4
    assert _backend._mean is list


def test_scaling_says_what_its_flags_take():
    for flags, told in [
        (["--devices", "1,x"], "--devices takes whole numbers above 0, such as 1,2,4"),
        (["--devices", "3", "--batch_sizes", "4"], "a multiple of each of --devices"),
        (["--plot", "nowhere/plot.png"], "--plot is a file in a folder that exists"),
    ]:
        done = zoo("benchmark", "scaling", *flags)
        assert done.returncode
        assert told in " ".join((done.stdout + done.stderr).split())
    done = zoo("benchmark", "vae", "--plot", "plot.png")
    assert "--plot is for scaling" in done.stdout + done.stderr
    done = zoo("benchmark", "vae", "--peak", "989")
    assert "--peak is for gan" in done.stdout + done.stderr
