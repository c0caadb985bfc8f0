"""Speech as training data: spoken digits by digit and speaker, or a folder of WAV.

    data = open_speech("tfds:spoken_digit", "train", model)

Takes 0 to 4 of each speaker and digit are the test set, as the data set's authors say.
In a folder, a file is called WORD_SPEAKER_TAKE.wav, such as 7_anna_12.wav.
"""

import functools
from pathlib import Path

import numpy as np

from zoo._audio import read_wav
from zoo._speech import RATE, trimmed
from zoo.trainers.data import Data, DataError, prepared

TEST = 5  # Takes below this are the test set.


def open_speech(address, split, model, manual_dir=None):
    """Return the `Data` at an address: rows as the model takes them, labels (N, 2).

    A row is a word and its speaker. For a model with `frames` it is frames and whether
    there is one, (frames, bands + 1); else the sound, (samples,).

    Args:
        address: "tfds:spoken_digit", or a folder of WAV files.
        split: "train", "test", or "all".
        model: A `SpeechRNN` or `Recognizer`.
        manual_dir: As for `open_data`.

    Raises:
        DataError: Nothing is there, or it has more words or speakers than the model.
    """
    clips = _clips(str(address), manual_dir)
    if split not in ("train", "test", "all"):
        raise DataError(f"Speech has the splits train, test and all, not {split!r}.")
    words, voices = (sorted({clip[i] for clip in clips}) for i in (0, 1))
    most = (
        (model.classes, model.speakers) if model.medium == "speech" else model.classes
    )
    if len(words) > most[0] or len(voices) > most[1]:
        raise DataError(
            f"{address} has {len(words)} words and {len(voices)} speakers; the model "
            f"knows {most[0]} and {most[1]}."
        )
    held = {"train": (False,), "test": (True,), "all": (True, False)}[split]
    clips = [clip for clip in clips if (clip[2] < TEST) in held]
    if not clips:
        raise DataError(f"{address} has no sounds in its split {split}.")
    labels = [[words.index(word), voices.index(voice)] for word, voice, *_ in clips]
    sounds = [clip[3] for clip in clips]
    if model.medium == "speech":
        rows = np.stack([model.numbers(sound) for sound in sounds])
    else:
        rows = model.padded(sounds)
    return Data(rows, np.array(labels, "int32"), name=f"{address} {split}")


@functools.lru_cache(maxsize=2)
def _clips(address, manual_dir):
    """Return (word, speaker, take, sound) of each clip."""
    if address.startswith("tfds:"):
        source = prepared(address[5:], manual_dir).as_data_source(split="train")
        rows = [source[i] for i in range(len(source))]
        named = [
            (row["audio/filename"].decode(), row["audio"] / np.float32(32768), RATE)
            for row in rows
        ]
    else:
        files = sorted(
            f for f in Path(address).rglob("*") if f.suffix.lower() == ".wav"
        )
        named = [(file.name, *read_wav(file)) for file in files]
    clips = []
    for name, sound, rate in sorted(named, key=lambda row: row[0]):
        parts = name.rsplit(".", 1)[0].split("_")
        if len(parts) != 3 or not parts[2].isdecimal():
            raise DataError(
                f"A file of speech is called WORD_SPEAKER_TAKE.wav, not {name}."
            )
        clips.append((parts[0], parts[1], int(parts[2]), trimmed(_at(sound, rate))))
    if not clips:
        raise DataError(f"There are no WAV files at {address}.")
    return clips


def _at(sound, rate):
    """Return a sound at `RATE` samples a second, without what that cannot hold."""
    if rate == RATE:
        return np.asarray(sound, "float32")
    count = round(len(sound) * RATE / rate)
    spectrum = np.fft.rfft(sound)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(sound))).astype("float32")
