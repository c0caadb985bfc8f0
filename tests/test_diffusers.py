"""The twin in diffusers computes what the zoo's U-Net does."""

import keras
import numpy as np
import pytest
from keras import ops
from test_diffusion import awake

import zoo
from zoo.tools import _diffusers

pytestmark = pytest.mark.once
torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("diffusers", reason="needs diffusers, in [benchmark]")


@pytest.mark.parametrize("patch", [1, 2])
def test_the_twin_is_the_same_function(patch):
    keras.utils.set_random_seed(0)
    sizes = {"channels": [8, 16], "blocks": 2, "patch": patch, "classes": 3}
    model = awake(zoo.DDPM([8, 8, 1], **sizes))
    unet = _diffusers.copied(model)
    count = sum(p.numel() for p in unet.parameters())
    # Kernels over squares have zeros that kernels over pixels do not need.
    assert count - model.count_params() == (0 if patch == 1 else 8 * (36 - 9))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    steps, labels = np.array([0, 500, 999]), np.array([0, 2, 3])
    times = ((steps + 1) / 1000).astype("float32")
    found = model(*map(ops.convert_to_tensor, (x, times, labels.astype("int32"))))
    with torch.inference_mode():
        squares = torch.from_numpy(np.ascontiguousarray(_diffusers.squares(x, patch)))
        theirs = _diffusers.predict(
            unet, squares, torch.from_numpy(steps), torch.from_numpy(labels)
        )
    theirs = _diffusers.images(theirs.numpy(), patch)
    np.testing.assert_allclose(ops.convert_to_numpy(found), theirs, atol=2e-3)
    assert np.abs(theirs).std() > 0.1
    np.testing.assert_array_equal(_diffusers.images(squares.numpy(), patch), x)


def test_the_schedule_is_the_same():
    model = zoo.DDPM([8, 8, 1], channels=[8], blocks=1)
    plan = _diffusers.scheduler(model)
    alpha, _ = model.schedule(np.array([0.001, 0.5, 1.0]))
    found = plan.alphas_cumprod.numpy()[[0, 499, 999]]
    np.testing.assert_allclose(found, alpha**2, rtol=1e-3)
