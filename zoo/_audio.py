"""Sound: WAV files by the standard library, a synthesizer, and pictures of sound."""

import wave

import numpy as np

from zoo._png import save_image
from zoo._saving import whole

RATE = 16_000  # Samples a second of what is synthesized.
PARTIALS = 1.0, 0.5, 0.33, 0.2, 0.1  # Share of each harmonic: somewhat like an organ.
EDGE = 0.02  # Seconds that a note takes to come and to go.


def save_wav(path, sound, rate=RATE):
    """Write sound, (samples,) in [-1, 1], as a WAV file of 16 bits, one channel."""
    data = (np.clip(sound, -1, 1) * 32767).round().astype("<i2")
    with whole(path) as scratch, wave.open(str(scratch), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())


def read_wav(path):
    """Return a WAV file's sound, (samples,) float32 in [-1, 1], and its rate.

    Several channels are averaged.

    Raises:
        ValueError: It is no WAV file of 8 or 16 bits.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            rate, data = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is no WAV file that can be read: {error}") from error
    if width not in (1, 2):
        raise ValueError(f"A WAV file has 8 or 16 bits; {path} has {8 * width}.")
    data = data[: len(data) // (width * channels) * width * channels]
    if width == 2:
        sound = np.frombuffer(data, "<i2") / np.float32(32768)
    else:
        sound = np.frombuffer(data, "u1") / np.float32(128) - 1
    return sound.reshape(-1, channels).mean(axis=1), rate


def synthesize(roll, bpm=90, rate=RATE):
    """Return the sound of a piano roll, (frames, 128): sums of sines, (samples,)."""
    frame, edge = round(60 / bpm * rate), round(EDGE * rate)
    sound = np.zeros(len(roll) * frame + edge)
    silence = np.zeros((1, roll.shape[1]), bool)
    change = np.diff(np.concatenate([silence, roll, silence]).astype(int), axis=0)
    for key in np.flatnonzero(roll.any(axis=0)):
        pitch = 440 * 2 ** ((key - 69) / 12)
        starts, ends = (np.flatnonzero(change[:, key] == value) for value in (1, -1))
        for start, end in zip(starts * frame, ends * frame):
            time = np.arange(end - start + edge) / rate
            note = sum(
                share * np.sin(2 * np.pi * pitch * n * time)
                for n, share in enumerate(PARTIALS, start=1)
                if pitch * n < rate / 2
            )
            rise = np.minimum(1, np.minimum(time, time[::-1]) / EDGE)
            sound[start : end + edge] += note * rise * np.exp(-0.5 * time)
    return (0.9 * sound / max(1e-9, np.abs(sound).max())).astype("float32")


def save_roll(path, rolls, scale=4):
    """Write piano rolls as a picture: time to the right, high keys at the top.

    Args:
        path: PNG file to write.
        rolls: List of (frames, 128); one below the other.
        scale: Pixels of a key, and half of those of a frame.
    """
    used = np.flatnonzero(np.any([roll.any(axis=0) for roll in rolls], axis=0))
    low, high = (used.min(), used.max()) if len(used) else (60, 72)
    longest, shades = max(map(len, rolls)), []
    for roll in rolls:
        shade = np.where(
            np.isin(np.arange(low - 1, high + 2) % 12, (1, 3, 6, 8, 10)), 0.9, 1
        )
        shade = np.tile(shade[:, None], (1, longest))
        shade[:, : len(roll)][roll[:, low - 1 : high + 2].T] = 0.2
        shades += [shade[::-1], np.zeros((1, longest))]
    picture = np.concatenate(shades[:-1]).repeat(scale, axis=0)
    save_image(path, picture.repeat(2 * scale, axis=1)[..., None])
