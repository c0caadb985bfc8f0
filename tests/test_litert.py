"""States that stay in LiteRT's memory, and what LiteRT says meanwhile."""

import copy
import importlib.util
import subprocess
import sys

import commands
import keras
import numpy as np
import pytest

import zoo
from zoo._run import Exported

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None
        or importlib.util.find_spec("ai_edge_litert") is None,
        reason="needs tensorflow and ai_edge_litert",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = zoo.GPT("abc", window=40, width=8, depth=2, heads=2)
    model.set_weights([5 * w for w in model.get_weights()])
    folder = tmp_path_factory.mktemp("gpt") / "gpt"
    model.export(folder, "litert", verbose=False)
    return folder


def test_caches_are_written_where_they_lie(folder):
    ran = Exported(folder)
    inputs = ran.signatures["step"]["inputs"]
    shared = {name for name, spec in inputs.items() if spec.get("in_place")}
    caches = {f"state_{kind}{i}" for kind in ("keys", "values") for i in range(2)}
    assert shared == caches < inputs.keys()  # `place` is read by others as well.

    start = ran.start(1)
    symbol = {"symbol": start.pop("symbol")}
    states = ran._runner.keep("step", start)
    held = dict(states[0])
    ran._runner.run("step", symbol, states)
    same = {name for name, buffer in states[0].items() if buffer is held[name]}
    assert same == caches


@pytest.mark.parametrize("num", [1, 3])
def test_shared_memory_changes_nothing(folder, num):
    ran, apart = Exported(folder), Exported(folder)
    apart._runner._signatures = copy.deepcopy(apart.signatures)
    for spec in apart._runner._signatures["step"]["inputs"].values():
        spec.pop("in_place", None)
    found = []
    for one in (ran, apart):
        start = one.start(num)
        symbol, logits = start.pop("symbol"), []
        states = one._runner.keep("step", start)
        for i in range(6):
            made = one._runner.run("step", {"symbol": symbol}, states)
            symbol = (np.arange(num, dtype="int32") + i) % 3
            logits.append(made["logits"])
        found.append(np.stack(logits))
    assert found[0].shape == (6, num, 3)
    assert len(np.unique(found[0])) > 12
    np.testing.assert_array_equal(*found)
    # As the signature gives it, whose state goes out and in.
    state = ran.start(num)
    for i, expected in enumerate(found[0]):
        out = ran.call("step", **state)
        np.testing.assert_array_equal(out.pop("logits"), expected)
        state = {**out, "symbol": (np.arange(num) + i) % 3}


def test_a_program_is_told_of_text_alone(folder):
    """LiteRT tells of accelerators, as it begins and as it ends."""
    done = commands.zoo("run", folder, "--prompt=ab", "--length=5", "--seed=1")
    text = Exported(folder).generate(prompt="ab", length=5, seed=1)[0]
    assert done.stdout == f"{text}\n"
    assert "INFO" not in done.stderr
    assert "WARNING" not in done.stderr


def test_errors_are_still_told(folder):
    code = (
        "import sys; from zoo._run import Exported; "
        f"Exported({str(folder)!r}).generate(length=2); sys.exit('told')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "told\n" in done.stderr
    assert done.returncode == 1
