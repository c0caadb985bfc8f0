"""What is told of exports is measured of exports."""

import numpy as np
import pytest
from test_contract import build

from zoo import _backend
from zoo._run import Exported
from zoo.tools import _benchmark_export as benchmark
from zoo.tools._benchmark_export import Row


@pytest.mark.skipif(
    _backend.NAME != "tensorflow",
    reason="an export is the same from every backend; TensorFlow makes it fastest",
)
def test_a_model_can_compute_by_its_export(tmp_path):
    for name in ("VAE-classes", "CharRNN", "DDPM-classes"):
        model, again = build(name), build(name)
        model.export(tmp_path / name, "litert", quantize="int8-dynamic", verbose=False)
        exported = Exported(tmp_path / name)
        benchmark.through(again, exported)
        assert benchmark.milliseconds(*benchmark.first(exported)) > 0
        if name == "CharRNN":
            texts = ["abcab", "cc"]
            expected = model.score(texts)
            found = again.score(texts)
            np.testing.assert_allclose(found, expected, atol=0.02)
        else:
            found, expected = again.generate(6, seed=1), model.generate(6, seed=1)
            np.testing.assert_array_equal(found, exported.generate(6, seed=1))
            assert 0 < np.abs(found - expected).max() < 0.1
        if name == "VAE-classes":
            images, labels = expected, np.arange(6) % 3
            codes = again.encode(np.uint8(255 * images), labels)
            np.testing.assert_allclose(codes, model.encode(images, labels), atol=0.1)


def test_the_table_has_shares_and_says_what_is_slower():
    time = 2.0, 1.5, "jax", "FD"
    rows = [
        Row("a", "float32", 4_000_000, 1e-6, *time, 3.0, ()),
        Row("a", "int8-dynamic", 1_000_000, 0.1, 1.0, *time[1:], 3.3, ("w", "v")),
        Row("b", "float32", 2_000_000, 1e-6, 1.0, *time[1:], 5.0, ()),
    ]
    cells, _, result = benchmark.told(rows)
    assert cells[2][:4] == ("a", "int8-dynamic", "1.00", "0.25")
    assert cells[2][-2:] == ("3.3", "w, v")
    assert cells[1][-1] == "-"
    assert result.startswith("3 exports of 2 presets; ")
    assert result.endswith("no slower than Keras in 1 of 2.")
