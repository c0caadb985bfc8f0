"""Speech as frames and back: mel spectrograms, and sound with phases made up for them.

A frame is the log of the energy in bands that are evenly spaced to the ear, scaled to
about [-2, 2]. Phases are found by the iteration of Griffin & Lim (1984), in the faster
form of Perraudin et al. (2013), https://doi.org/10.1109/WASPAA.2013.6701851.
"""

import functools

import numpy as np

from zoo._png import save_image

RATE = 8_000  # Samples a second.
WINDOW, HOP = 256, 128  # Samples of a frame, and between frames: 16 ms.
FLOOR, SCALE = 1e-5, 3.0
HANN = np.hanning(WINDOW + 1)[:-1]


def frames_of(sound, bands):
    """Return the frames of a sound, (samples,) in [-1, 1], as (frames, bands)."""
    energy = np.abs(_forward(sound)) @ _filters(bands)
    return ((np.log(energy + FLOOR) + 3.0) / SCALE).astype("float32")


def sounds_of(made):
    """Return the sounds of what a model makes, (n, frames, bands + 1), in a list.

    The last number of a frame is 1 where there is one; each sound has a few at least,
    if need be of silence.
    """
    there = made[..., -1] > 0
    there[:, :4] = True
    return [sound_of(part[rows, :-1]) for part, rows in zip(made, there)]


def sound_of(frames, rounds=60):
    """Return the sound of frames, (frames, bands) -> (samples,) float32 in [-1, 1]."""
    energy = np.exp(np.asarray(frames, "float64") * SCALE - 3.0) - FLOOR
    back = np.linalg.pinv(_filters(frames.shape[1]))
    size = np.maximum(energy @ back, 0)
    phase = np.exp(
        2j * np.pi * np.random.Generator(np.random.Philox(0)).random(size.shape)
    )
    last = np.zeros_like(phase)
    for _ in range(rounds):
        now = _forward(_backward(size * phase))
        phase = now + 0.99 * (now - last)
        phase /= np.maximum(np.abs(phase), 1e-9)
        last = now
    sound = _backward(size * phase)
    return (sound / max(1.0, np.abs(sound).max())).astype("float32")


def save_spectrogram(path, sounds, bands=64, scale=3):
    """Write sounds as a picture: time to the right, low frequencies at the bottom."""
    parts = [frames_of(sound, bands) for sound in sounds]
    longest, rows = max(map(len, parts)), []
    for part in parts:
        row = np.zeros((bands, longest))
        row[:, : len(part)] = np.clip(0.5 + part.T / 4, 0, 1)
        rows += [row[::-1], np.ones((1, longest))]
    picture = np.concatenate(rows[:-1]).repeat(scale, axis=0).repeat(scale, axis=1)
    save_image(path, picture[..., None])


def trimmed(sound, quiet=0.02, room=256):
    """Return a sound without the silence at both ends, but for a few samples.

    Args:
        sound: (samples,) in [-1, 1].
        quiet: Share of the loudest, below which is silence.
        room: Samples of it that are kept.
    """
    loud = np.flatnonzero(np.abs(sound) > quiet * max(np.abs(sound).max(), 1e-9))
    if not len(loud):
        return sound
    return sound[max(0, loud[0] - room) : loud[-1] + room]


def _forward(sound):
    """Return the short-time spectrum, (frames, WINDOW / 2 + 1) complex."""
    padded = np.pad(np.asarray(sound, "float64"), WINDOW // 2)
    padded = np.pad(padded, (0, -len(padded) % HOP))
    count = (len(padded) - WINDOW) // HOP + 1
    index = np.arange(count)[:, None] * HOP + np.arange(WINDOW)
    return np.fft.rfft(padded[index] * HANN)


def _backward(spectrum):
    """Return the sound whose short-time spectrum is nearest, by overlap and add."""
    parts = np.fft.irfft(spectrum, WINDOW) * HANN
    length = (len(parts) - 1) * HOP + WINDOW
    sound, weight = np.zeros(length), np.zeros(length)
    for i, part in enumerate(parts):
        sound[i * HOP : i * HOP + WINDOW] += part
        weight[i * HOP : i * HOP + WINDOW] += HANN**2
    return (sound / np.maximum(weight, 1e-3))[WINDOW // 2 : length - WINDOW // 2]


@functools.cache
def _filters(bands):
    """Return triangles evenly spaced in mel, (WINDOW / 2 + 1, bands)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    width = RATE / WINDOW  # No triangle falls between two frequencies.
    rise = (hertz - low + width) / (middle - low + width)
    fall = (high - hertz + width) / (high - middle + width)
    triangles = np.clip(np.minimum(rise, fall), 0, None)
    return triangles / triangles.sum(axis=0)
