"""The benchmark of GPT, at a size of nothing."""

import keras
import pytest

from zoo.tools import _benchmark, _benchmark_gpt

pytestmark = pytest.mark.once

BACKEND = keras.backend.backend()
TINY = {"symbols": 40, "window": 96, "width": 16, "depth": 1, "heads": 2}


def test_all_rows_are_there_at_a_tiny_size(monkeypatch):
    pytest.importorskip("keras_hub", reason="needs keras-hub, in [hub]")
    told = []
    setting = _benchmark.Setting((BACKEND,), 1, 24, told.append)
    monkeypatch.setattr(_benchmark, "PAUSE", 0)
    monkeypatch.setattr(_benchmark_gpt, "NANO", _benchmark_gpt.NANO[:1])
    monkeypatch.setattr(_benchmark_gpt, "TRAINED", {**TINY, "window": 16})
    rows = _benchmark_gpt.measure(setting, TINY)
    assert all(row.value > 0 for row in rows)
    ours = {row.measure: row for row in rows if row.backend == BACKEND}
    assert set(ours) == {
        "decoding, batch 1, 64 after 16",
        "a symbol after 32, over one after 16",
        "first symbol after a prompt of 32",
        "training",
    }
    peer = ours["decoding, batch 1, 64 after 16"].peer
    assert (peer is None) == (not _benchmark.installed("transformers"))
    assert (ours["training"].peer is None) == (not _benchmark.installed("torch"))
    assert ours["training"].target == "≥ 1.3 x"


def test_the_best_backend_is_held_to_the_promise():
    ours = {"jax": [2.0, 2.0], "torch": [8.0, 8.0]}
    fast, slow = _benchmark.better("decoding", "ms", ours, [4.0, 4.0], 1.7)
    assert (fast.ratio, fast.met, slow.ratio, slow.met) == (2.0, True, 0.5, None)
    slow, fast = _benchmark.better("training", "x/s", ours, [4.0, 4.0], 3)
    assert (fast.ratio, fast.met, slow.target) == (2.0, False, None)
