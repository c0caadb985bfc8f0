"""Text, music and sound as files and as data."""

import importlib.util

import keras
import numpy as np
import pytest
from absl import flags

import zoo
from zoo import metrics
from zoo._audio import read_wav, save_roll, save_wav, synthesize
from zoo._speech import frames_of, sound_of, trimmed
from zoo.tools import _samples
from zoo.trainers.data import Batches, DataError, open_for

pytestmark = pytest.mark.once


def chord(*keys):
    roll = np.zeros(128, bool)
    roll[list(keys)] = True
    return roll


def test_a_piece_survives_a_midi_file(tmp_path):
    pytest.importorskip("mido", reason="needs [audio]")
    from zoo._midi import read_midi, write_midi

    roll = np.random.default_rng(0).random((20, 128)) < 0.1
    roll[-1, 60] = True
    write_midi(tmp_path / "x.mid", roll)
    np.testing.assert_array_equal(read_midi(tmp_path / "x.mid"), roll)
    (tmp_path / "bad.mid").write_bytes(b"MThd none")
    with pytest.raises(ValueError, match="bad.mid is no MIDI file"):
        read_midi(tmp_path / "bad.mid")
    write_midi(tmp_path / "empty.mid", np.zeros((3, 128), bool))
    with pytest.raises(ValueError, match="no notes that sound on a beat"):
        read_midi(tmp_path / "empty.mid")


def test_a_note_sounds_at_its_pitch(tmp_path):
    sound = synthesize(np.stack([chord(69)] * 4), bpm=60)
    assert np.abs(sound).max() == pytest.approx(0.9)
    spectrum = np.abs(np.fft.rfft(sound[:64_000]))
    assert spectrum.argmax() / 4 == pytest.approx(440, abs=0.5)
    save_wav(tmp_path / "a.wav", sound)
    again, rate = read_wav(tmp_path / "a.wav")
    assert rate == 16_000
    np.testing.assert_allclose(again, sound, atol=1e-4)
    save_roll(tmp_path / "a.png", [np.stack([chord(69)] * 4)])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(ValueError, match="no.wav is no WAV file"):
        read_wav(tmp_path / "no.wav")


def test_sound_made_from_frames_has_those_frames():
    time = np.arange(4_000) / 8_000
    sound = 0.5 * np.sin(2 * np.pi * 440 * time) * (time > 0.1) * (time < 0.4)
    frames = frames_of(sound, 48)
    again = frames_of(sound_of(frames), 48)
    loud = frames > 0
    assert np.abs(again[: len(frames)] - frames)[loud].mean() < 0.15
    assert 2_400 < len(trimmed(sound)) < 3_000


def test_windows_of_text_move_from_epoch_to_epoch(tmp_path):
    (tmp_path / "a.txt").write_text("abcabcabc\n" * 9, "utf-8")
    (tmp_path / "b.txt").write_text("cab" * 9, "utf-8")
    model = zoo.CharRNN("\nabc", hidden=[4])
    data = open_for(model, tmp_path, "train", length=16)
    assert data.text.startswith("abcabcabc\n")
    assert data.text.endswith("\n" + "cab" * 9)
    batches = Batches(data, 2, seed=0)
    seen = set()
    for epoch in range(8):
        batches.start(epoch)
        seen.add(data.offset)
        rows = np.concatenate([batches[i][0] for i in range(len(batches))])
        assert rows.shape == (len(data), 16)
        assert all(model.text(row) in data.text for row in rows)
    assert len(seen) > 3
    other = zoo.CharRNN("\nab", hidden=[4])
    with pytest.raises(DataError, match="has 'c', not in the vocabulary.*--init"):
        open_for(other, tmp_path, "train")
    with pytest.raises(DataError, match="no text at"):
        open_for(model, tmp_path / "nothing", "train")


def test_pieces_move_to_another_key_and_back(tmp_path):
    mido = pytest.importorskip("mido", reason="needs [audio]")
    from zoo._midi import write_midi

    assert mido
    roll = np.stack([chord(60, 64, 67), chord(60, 65, 69)] * 4)
    write_midi(tmp_path / "hymn.mid", roll)
    model = zoo.ChoraleRNN(voices=3, lowest=55, highest=75, hidden=4)
    data = open_for(model, tmp_path, "train", length=10, transpose=3)
    moves = set()
    for epoch in range(40):
        data.begin(np.random.default_rng(epoch))
        (row,) = data[np.arange(1)]
        assert (row[24:] == -1).all()
        move = int(data.moves[0])
        moved = np.roll(roll, move, axis=1)
        np.testing.assert_array_equal(model.roll(row[:24]), moved)
        moves.add(move)
    assert moves == set(range(-3, 4))
    small = zoo.ChoraleRNN(voices=2, lowest=55, highest=75, hidden=4)
    with pytest.raises(DataError, match="hymn.mid has at most 2 keys"):
        open_for(small, tmp_path, "train")


def test_words_and_speakers_are_read_from_names(tmp_path):
    for name, pitch in (("no_ann_0", 200), ("yes_ann_7", 300), ("yes_bob_9", 400)):
        time = np.arange(6_000) / 16_000
        wave = np.sin(2 * np.pi * pitch * time)
        save_wav(tmp_path / f"{name}.wav", wave, 16_000)
    model = zoo.Recognizer(samples=4096, classes=[2, 2], hidden=[2], shift=0)
    data = open_for(model, str(tmp_path), "train")
    np.testing.assert_array_equal(data.labels, [[1, 0], [1, 1]])
    assert data.images.shape == (2, 4096)
    spectrum = np.abs(np.fft.rfft(data.images[1]))
    assert spectrum.argmax() * 8_000 / 4096 == pytest.approx(400, abs=3)
    assert len(open_for(model, str(tmp_path), "test")) == 1
    speech = zoo.SpeechRNN(2, 2, bands=6, frames=20, hidden=3, heard=3, mixture=1)
    rows = open_for(speech, str(tmp_path), "train").images
    assert rows.shape == (2, 20, 7)
    assert rows[..., -1].all()
    (tmp_path / "other").mkdir()
    save_wav(tmp_path / "other" / "noise.wav", np.zeros(100))
    with pytest.raises(DataError, match="WORD_SPEAKER_TAKE.wav, not noise.wav"):
        open_for(model, tmp_path / "other", "train")


def test_faults_of_harmony_are_found():
    fifths = np.stack([chord(48, 55, 64), chord(50, 57, 65)])
    contrary = np.stack([chord(48, 55, 64), chord(47, 55, 62)])
    assert metrics.parallel_fifths([fifths]) == 1
    assert metrics.parallel_fifths([contrary]) == 0
    assert metrics.parallel_fifths([fifths, contrary]) == 0.5
    passing = np.stack([chord(48, 55, 64), chord(56, 60, 64)])
    assert metrics.voice_overlaps([passing]) == 1
    assert metrics.voice_overlaps([fifths]) == 0
    assert metrics.unknown_chords([fifths], [fifths + 0 > 0]) == 0
    moved = np.roll(fifths, 5, axis=1)
    assert metrics.unknown_chords([moved], [fifths]) == 0
    assert metrics.unknown_chords([np.stack([chord(60, 61, 62)])], [fifths]) == 1


def test_the_chorales_have_the_split_of_the_benchmark():
    from conftest import SHARED

    from zoo.trainers.music import chorales

    if not (SHARED / "jsb_chorales").is_dir():
        pytest.skip("needs the chorales in ../shared/data/jsb_chorales")
    folder = SHARED / "jsb_chorales"
    count = [len(chorales(split, folder)) for split in ("train", "validation", "test")]
    assert count == [229, 76, 77]
    with pytest.raises(DataError, match="splits train, validation and test, not 'x'"):
        chorales("x", folder)


def test_sound_and_picture_need_no_mido(tmp_path, monkeypatch):
    flags.FLAGS.mark_as_parsed()
    model, found = zoo.ChoraleRNN(hidden=4), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: found(name) if name != "mido" else None,
    )
    wrote = _samples._music(lambda: model, tmp_path / "a.wav", {"length": 2})
    assert wrote == "a.wav, a.png"
    assert {f.name for f in tmp_path.iterdir()} == {"a.wav", "a.png"}
    with pytest.raises(ImportError, match="mido"):
        _samples._music(lambda: model, tmp_path / "b.mid", {"length": 2})


def test_sounds_are_varied_but_stay_what_they_are():
    model = zoo.Recognizer(samples=512, classes=[2, 2], hidden=[2], shift=40, echo=0)
    sound = np.zeros((64, 512), "float32")
    sound[:, 206:306] = np.sin(np.arange(100) / 4)
    varied = keras.ops.convert_to_numpy(
        model._varied(keras.ops.convert_to_tensor(sound))
    )
    assert varied.shape == sound.shape
    loud = np.abs(varied) > 0.15
    first, last = loud.argmax(axis=1), 511 - loud[:, ::-1].argmax(axis=1)
    length, middle = last - first, 0.5 * (first + last)
    assert 70 < length.min() < 92 < 105 < length.max() < 115  # Of 98 as it is.
    assert 20 < np.abs(middle - 255).max() < 50
    still = zoo.Recognizer(512, [2, 2], [2], shift=0, stretch=0, echo=0)
    whole = keras.ops.convert_to_numpy(
        still._varied(keras.ops.convert_to_tensor(sound))
    )
    scale = np.abs(whole).max(axis=1, keepdims=True) / np.abs(sound).max()
    np.testing.assert_allclose(whole, scale * sound, atol=0.06)


def test_an_echo_is_as_loud_as_it_is_asked_to_be():
    model = zoo.Recognizer(samples=1024, classes=[2, 2], hidden=[2])
    click = np.zeros((64, 1024), "float32")
    click[:, 100] = 1
    given = [click, np.full((64, 1), 0.5), np.full((64, 1), 0.02)]
    given = [keras.ops.convert_to_tensor(x.astype("float32")) for x in given]
    echo = keras.ops.convert_to_numpy(model._echoed(*given)) - click
    assert np.mean(np.sum(echo**2, axis=1)) == pytest.approx(0.25, rel=0.2)
    early, late = (np.abs(echo[:, 100 + k : 110 + k]).mean() for k in (0, 60))
    assert late < 0.2 * early
    assert np.abs(echo[:, :90]).mean() < 0.02 * early
