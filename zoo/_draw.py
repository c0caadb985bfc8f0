"""Draw symbols from odds by numbers that are given, so that a seed means the same."""

from keras import ops


def drawn(logits, noise, temperature=None, top_k=None, top_p=None):
    """Return the symbol at which the cumulative distribution passes its number.

    The symbols keep their order; those that are cut have no share. Symbols as likely
    as the last that is kept are kept too.

    Args:
        logits: (n, symbols) float32.
        noise: (n,) uniform in [0, 1).
        temperature: (n,), the logits are divided by it; None for 1, and 0 takes one of
            the likeliest.
        top_k: (n,) whole, how many of the likeliest are kept; None cuts nothing.
        top_p: (n,) in (0, 1], the likeliest are kept until their share is at least
            this (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751); with
            `top_k`, and of what the temperature makes.

    Returns:
        (n,) int32.
    """
    if temperature is not None:
        logits = logits - ops.max(logits, axis=-1, keepdims=True)
        logits = logits / ops.maximum(temperature, 1e-6)[:, None]
    odds = ops.softmax(logits)
    if top_k is not None:
        ranked = -ops.sort(-odds, axis=-1)
        before = ops.cumsum(ranked, axis=-1) - ranked
        rank = ops.arange(odds.shape[-1], dtype="int32")[None]
        kept = ops.logical_and(
            ops.less(rank, ops.expand_dims(top_k, -1)),
            ops.less(before, ops.expand_dims(top_p, -1)),
        )
        least = ops.min(ops.where(kept, ranked, 2.0), axis=-1, keepdims=True)
        odds = ops.where(odds >= least, odds, 0.0)
    edges = ops.cumsum(odds, axis=-1)
    # A number next to 1 must not round to the end of all.
    spot = ops.minimum(noise, 1 - 1e-6)[:, None] * edges[:, -1:]
    return ops.sum(ops.cast(edges <= spot, "int32"), axis=-1)
