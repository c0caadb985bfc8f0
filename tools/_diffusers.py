"""The zoo's U-Net in diffusers: the same network, and the same weights, on PyTorch."""

import re

import numpy as np

from zoo.diffusion.schedules import STEPS


def twin(config):
    """Return a UNet2DModel of the sizes of a DDPM.

    An image read in squares of pixels is for diffusers a smaller one of more channels.

    Args:
        config: The model's `get_config()`.
    """
    from diffusers import UNet2DModel

    patch, channels, classes = config["patch"], config["channels"], config["classes"]
    here = {level % len(channels) for level in config["attention"]}
    if len({channels[level] for level in here}) > 1:
        raise ValueError("diffusers gives all attention heads one width.")
    kinds = ["AttnDown" if k in here else "Down" for k in range(len(channels))]
    size = config["image_shape"][-1] * patch**2
    return UNet2DModel(
        sample_size=config["image_shape"][0] // patch,
        in_channels=size,
        out_channels=size,
        block_out_channels=tuple(channels),
        layers_per_block=config["blocks"],
        down_block_types=tuple(f"{kind}Block2D" for kind in kinds),
        up_block_types=tuple(
            f"{kind.replace('Down', 'Up')}Block2D" for kind in reversed(kinds)
        ),
        downsample_padding=0,  # As Keras: beyond the last row and column alone.
        norm_num_groups=8,
        attn_norm_num_groups=8,
        attention_head_dim=channels[-1],
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=classes + 1 if classes else None,
    )


def copied(model):
    """Return the twin of a `DDPM` with its weights."""
    import torch

    unet, left = twin(model.get_config()), {}
    for layer in model.network.layers:
        left.setdefault(type(layer).__name__, []).append(layer)
    for layers in left.values():
        layers.sort(key=_number)  # As they were made, which is how _parts goes.
    for kind, modules in _parts(unet):
        arrays = _arrays(left[kind].pop(0))
        targets = [p for module in modules for p in module.parameters(recurse=False)]
        for parameter, array in zip(targets, arrays, strict=True):
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)  # To out, in, height, width.
                array = _square(array, parameter.shape)
            elif array.ndim == 2 and kind != "Embedding":
                array = array.T
            if array.shape != tuple(parameter.shape):
                raise ValueError(f"{kind}: {array.shape}, {tuple(parameter.shape)}.")
            parameter.data = torch.from_numpy(np.ascontiguousarray(array))
    return unet.eval()


def _number(layer):
    return int((re.findall(r"_(\d+)$", layer.name) or [0])[0])


def _arrays(layer):
    """Return a layer's weights as diffusers has them: query, key and value apart."""
    arrays = layer.get_weights()
    if type(layer).__name__ != "ImageAttention":
        return arrays
    *norm, kernel, bias, out, more = arrays
    parts = zip(np.split(kernel, 3, axis=1), np.split(bias, 3))
    return [*norm, *(array for part in parts for array in part), out, more]


def _square(kernel, shape):
    """Return the kernel over squares of what a kernel of stride 2 does over pixels."""
    if kernel.shape == tuple(shape):
        return kernel
    out, colours, *sides = kernel.shape
    square = np.zeros(shape, kernel.dtype)
    for row in range(sides[0]):
        for column in range(sides[1]):
            first = (row % 2 * 2 + column % 2) * colours
            place = 1 + row // 2, 1 + column // 2
            square[:, first : first + colours, *place] = kernel[:, :, row, column]
    return square


def _parts(unet):
    """Yield what a U-Net is made of: (the zoo's layer, diffusers' modules of it)."""
    yield "Dense", [unet.time_embedding.linear_1]
    yield "Dense", [unet.time_embedding.linear_2]
    if unet.class_embedding is not None:
        yield "Embedding", [unet.class_embedding]
    yield "Conv2D", [unet.conv_in]
    for block in unet.down_blocks:
        yield from _level(block, block.downsamplers)
    first, last = unet.mid_block.resnets
    yield from _residual(first)
    for attention in unet.mid_block.attentions:
        yield from _attention(attention)
    yield from _residual(last)
    for block in unet.up_blocks:
        yield from _level(block, block.upsamplers)
    yield "GroupNorm", [unet.conv_norm_out]
    yield "Conv2D", [unet.conv_out]


def _level(block, samplers):
    attentions = getattr(block, "attentions", [None] * len(block.resnets))
    for resnet, attention in zip(block.resnets, attentions):
        yield from _residual(resnet)
        yield from _attention(attention)
    for sampler in samplers or []:
        yield "Conv2D", [sampler.conv]


def _residual(resnet):
    yield "GroupNorm", [resnet.norm1]
    yield "Conv2D", [resnet.conv1]
    yield "GroupNorm", [resnet.norm2]
    yield "Dense", [resnet.time_emb_proj]
    yield "Conv2D", [resnet.conv2]
    if resnet.conv_shortcut is not None:
        yield "Conv2D", [resnet.conv_shortcut]


def _attention(part):
    if part is not None:
        projections = part.to_q, part.to_k, part.to_v, part.to_out[0]
        yield "ImageAttention", [part.group_norm, *projections]


def scheduler(model):
    """Return diffusers' DDIMScheduler, by its defaults, of a model's own schedule."""
    from diffusers import DDIMScheduler

    alpha, _ = model.schedule(np.arange(1, STEPS + 1) / STEPS)
    before = np.concatenate([[1.0], alpha[:-1]])
    kind = {"v": "v_prediction", "epsilon": "epsilon", "x0": "sample"}
    return DDIMScheduler(
        trained_betas=(1 - (alpha / before) ** 2).tolist(),
        prediction_type=kind[model.prediction],
    )


def predict(unet, x, steps, labels=None):
    """Return a twin's prediction for a tensor x, at diffusers' whole steps 0 to 999."""
    return unet(x, steps + 1, class_labels=labels).sample  # The zoo counts from 1.


def sample(unet, plan, num, steps, labels=None, seed=0):
    """Return images in [0, 1], (num, channels, height, width), as a user samples them.

    Of a twin that reads squares these are still squares.
    """
    import torch

    plan.set_timesteps(steps)
    shape = num, unet.config.in_channels, *[unet.config.sample_size] * 2
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        for step in plan.timesteps:
            x = plan.step(predict(unet, x, step, labels), step, x).prev_sample
    return (0.5 * x + 0.5).clamp(0, 1)


def images(squares, patch):
    """Return images (n, height, width, channels) of an array of squares."""
    n, size, rows, columns = squares.shape
    parts = squares.reshape(n, patch, patch, size // patch**2, rows, columns)
    parts = parts.transpose(0, 4, 1, 5, 2, 3)
    return parts.reshape(n, rows * patch, columns * patch, size // patch**2)


def squares(images, patch):
    """Return images as a twin reads them: the other way from `images`."""
    n, height, width, colours = images.shape
    parts = images.reshape(
        n, height // patch, patch, width // patch, patch, colours
    ).transpose(0, 2, 4, 5, 1, 3)
    return parts.reshape(n, -1, height // patch, width // patch)
