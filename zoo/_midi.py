"""Piano rolls as MIDI files and back, by mido; one frame is one quarter note."""

import importlib.util

import numpy as np

from zoo._saving import whole

KEYS = 128
TICKS = 480  # Of a quarter note.


def roll_of(symbols, voices, lowest):
    """Return the piano roll of symbols, (frames * voices,) -> (frames, 128).

    Args:
        symbols: For each voice of a frame 0 for none, 1 for the lowest key, and so on.
        voices: Symbols of a frame.
        lowest: The lowest key.
    """
    frames = np.reshape(symbols, (-1, voices))
    roll = np.zeros((len(frames), KEYS), bool)
    time, voice = np.nonzero(frames)
    roll[time, frames[time, voice] + lowest - 1] = True
    return roll


def write_midi(path, roll, bpm=90):
    """Write a piano roll, (frames, 128), as a MIDI file; a key that goes on is held.

    Args:
        path: File to write.
        roll: Truth values.
        bpm: Quarter notes a minute.
    """
    mido = load()
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))])
    silence = np.zeros((1, roll.shape[1]), bool)
    change = np.diff(np.concatenate([silence, roll, silence]).astype(int), axis=0)
    now = 0
    for time, row in enumerate(change):
        for value, kind in ((-1, "note_off"), (1, "note_on")):
            for key in np.flatnonzero(row == value):
                delta, now = TICKS * time - now, TICKS * time
                track.append(mido.Message(kind, note=int(key), velocity=64, time=delta))
    track.append(mido.MetaMessage("end_of_track", time=TICKS * len(roll) - now))
    with whole(path) as scratch:
        mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(scratch)


def read_midi(path):
    """Return the piano roll of a MIDI file, (frames, 128): what sounds on each beat.

    Notes between beats are left out, as are drums.

    Raises:
        ValueError: The file is no MIDI file, or has no notes on a beat.
    """
    mido = load()
    try:
        file = mido.MidiFile(path)
    except (OSError, EOFError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is no MIDI file that can be read: {error}") from error
    notes = []
    for track in file.tracks:
        now, sounding = 0, {}
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == 9:
                continue
            key = message.channel, message.note
            if key in sounding:
                notes.append((sounding.pop(key), now, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
    beat = file.ticks_per_beat
    frames = max((-(-end // beat) for _, end, _ in notes), default=0)
    if frames > 1_000_000:
        raise ValueError(f"{path} has {frames:,} quarter notes; 1,000,000 are allowed.")
    roll = np.zeros((frames, 128), bool)
    for start, end, note in notes:
        roll[-(-start // beat) : -(-end // beat), note] = True
    if not roll.any():
        raise ValueError(f"{path} has no notes that sound on a beat.")
    return roll


def load():
    """Return mido, or raise an ImportError that says how to install it."""
    if importlib.util.find_spec("mido") is None:
        raise ImportError(
            'MIDI files need mido, which is not installed: pip install "generative-zoo'
            '[audio]".'
        )
    import mido

    return mido
