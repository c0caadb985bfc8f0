"""Noto's emoji: their groups, the families of the split, and the drawings."""

import io
import zipfile

import numpy as np
import pytest
from conftest import SHARED

from zoo.trainers.data import DataError, open_data
from zoo.trainers.emoji import GROUPS, captions, draw, family, files, group

pytestmark = pytest.mark.once

PIL = pytest.importorskip("PIL.Image", reason="needs pillow, in [data]")

FOLDER = SHARED / "noto_emoji"
SHAPE = (32, 32, 3)
PEOPLE = [f"emoji_u1f3c3{tone}.png" for tone in ("", "_1f3fb", "_200d_2640_200d_27a1")]
THINGS = [f"emoji_u{code:x}.png" for code in range(0x1F400, 0x1F411)]


@pytest.fixture
def noto():
    if not FOLDER.is_dir():
        pytest.skip("needs Noto's emoji in ../shared/data/noto_emoji")
    return FOLDER


@pytest.fixture
def tiny(tmp_path):
    """A folder like Noto's, of 20 emoji and one picture that is none."""
    with zipfile.ZipFile(tmp_path / "noto-emoji-32.zip", "w") as archive:
        for index, name in enumerate([*THINGS, *PEOPLE, "emoji_ufe82c.png"]):
            picture = PIL.new("RGBA", (32, 32), (255, 0, 0, 0))  # Clear: white beneath.
            picture.paste((10 * index, 0, 200, 255), (8, 8, 24, 24))
            file = io.BytesIO()
            picture.save(file, "png")
            archive.writestr(f"32/{name}", file.getvalue())
    rows = [f"{name}\tanimal {name[7:-4]}" for name in THINGS]
    rows += [f"{name}\trunner, running" for name in PEOPLE]
    (tmp_path / "captions.tsv").write_text("\n".join(["file\tcaption", *rows]))
    return tmp_path


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ("1f600", "Smileys & Emotion"),
        ("2764_200d_1f525", "Smileys & Emotion"),  # Heart on fire.
        ("1f441_200d_1f5e8", "Smileys & Emotion"),  # The eye alone is People & Body.
        ("1f441", "People & Body"),
        ("1f469_200d_1f680", "People & Body"),
        ("1f468_200d_1f469_200d_1f466", "People & Body"),
        ("1f3fb", "People & Body"),
        ("1f436", "Animals & Nature"),
        ("1f355", "Food & Drink"),
        ("1f697", "Travel & Places"),
        ("26bd", "Activities"),
        ("1f4a1", "Objects"),
        ("0023_20e3", "Symbols"),
        ("1f3f3_200d_1f308", "Flags"),
    ],
)
def test_the_code_points_give_the_group(codes, name):
    assert GROUPS[group(f"emoji_u{codes}.png")] == name


def test_what_is_no_emoji_has_no_group():
    for name in ("emoji_ufe82c.png", "emoji_u.png", "1f600.png", "emoji_u1f600.svg"):
        assert group(name) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1f44b", "1f44b_1f3ff"),
        ("1f469_1f3fb_200d_1f680", "1f9d1_200d_1f680"),
        ("1f3c3_200d_2642", "1f3c3_1f3fc_200d_2640_200d_27a1"),
        ("1f46b", "1f469_1f3fd_200d_1f91d_200d_1f468_1f3fe"),
        ("1f91d_1f3fd", "1faf1_1f3fd_200d_1faf2_1f3fe"),
        ("1f468_200d_1f9b0", "1f468_1f3fb_200d_1f9b2"),
    ],
)
def test_near_twins_are_one_family(one, other):
    assert family(f"emoji_u{one}.png") == family(f"emoji_u{other}.png")


def test_other_emoji_are_other_families():
    codes = (
        "1f600",
        "1f603",
        "1f3fb",
        "1f3fc",
        "1f9b0",
        "27a1",
        "2640",
        "1f469",
        "1f466",
    )
    assert len({family(f"emoji_u{code}.png") for code in codes}) == len(codes)


def test_a_family_is_not_divided(tiny):
    train, test = files("train", tiny), files("test", tiny)
    assert sorted(train + test) == sorted(THINGS + PEOPLE)
    assert len(test) == 2  # A tenth: too few for the family of three.
    assert not {family(name) for name in train} & {family(name) for name in test}
    assert train == sorted(train)
    assert files("test", tiny) == test


def test_pictures_are_on_white_and_labels_are_groups(tiny):
    data = open_data("noto_emoji", "train", SHAPE, labels=True, manual_dir=tiny)
    images, labels = data[:]
    assert images.shape == (18, *SHAPE)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert images[0, 0, 0].tolist() == [255, 255, 255]
    assert sorted({GROUPS[label] for label in labels}) == [
        "Animals & Nature",
        "People & Body",
    ]
    small = open_data("noto_emoji", "test", (16, 16, 3), manual_dir=tiny)
    assert small[:].shape == (2, 16, 16, 3)


def test_captions_are_in_the_order_of_the_rows(tiny):
    expected = {name: f"animal {name[7:-4]}" for name in THINGS}
    expected.update(dict.fromkeys(PEOPLE, "runner, running"))
    for split in ("train", "test"):
        assert captions(split, tiny) == [expected[name] for name in files(split, tiny)]
    (tiny / "captions.tsv").write_text("file\tcaption\n")
    with pytest.raises(DataError, match=r"has none of emoji_u1f"):
        captions("train", tiny)
    (tiny / "captions.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no sound table of captions"):
        captions("train", tiny)


def test_a_drawing_is_the_outline():
    picture = np.full((1, 32, 32, 3), 255, "uint8")
    picture[:, 8:24, 8:24] = (250, 250, 20)  # Yellow: an edge of blue alone.
    picture[:, 12:20, 12:20] = (245, 245, 15)  # Shading.
    expected = np.full((32, 32), 255)
    expected[8:24, 8:24] = 0
    expected[9:23, 9:23] = 255
    drawing = draw(picture)
    assert drawing.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(drawing[0, :, :, channel], expected)
    full = draw(np.zeros((1, 8, 8, 3), "uint8"))[0, :, :, 0]
    assert full.sum() == 36 * 255  # The frame is black: outside is white.


def test_pairs_are_drawing_and_picture(tiny):
    pairs = open_data("noto_emoji:drawings", "train", SHAPE, manual_dir=tiny)
    drawings, pictures = pairs.only(np.arange(5, 10))[np.array([0, 3])]
    plain = open_data("noto_emoji", "train", SHAPE, manual_dir=tiny)
    np.testing.assert_array_equal(pictures, plain[np.array([5, 8])])
    np.testing.assert_array_equal(drawings, draw(pictures))


def test_the_styles_share_no_emoji(tiny):
    def rows(images):
        return {image.tobytes() for image in images}

    data = open_data("noto_emoji:styles", "train", SHAPE, manual_dir=tiny)
    drawings, pictures = data[:]
    assert len(drawings) == len(pictures) == 9
    plain = open_data("noto_emoji", "train", SHAPE, manual_dir=tiny)[:]
    others = [image for image in plain if image.tobytes() not in rows(pictures)]
    assert rows(drawings) == rows(draw(np.stack(others)))
    again = open_data("noto_emoji:styles", "train", SHAPE, manual_dir=tiny)
    np.testing.assert_array_equal(again[:][1], pictures)
    drawings, pictures = open_data("noto_emoji:styles", "test", SHAPE, False, tiny)[:]
    np.testing.assert_array_equal(drawings, draw(pictures))


def test_what_is_not_there_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_MANUAL_DIR", raising=False)
    with pytest.raises(DataError) as raised:
        open_data("noto_emoji", "train", SHAPE)
    for text in (
        "noto-emoji-32.zip",
        "captions.tsv",
        "$ZOO_MANUAL_DIR/noto_emoji",
        "https://github.com/googlefonts/noto-emoji",
    ):
        assert text in str(raised.value)
    with pytest.raises(DataError, match="splits are train, test; got valid"):
        open_data("noto_emoji", "valid", SHAPE, manual_dir=tiny)
    with pytest.raises(DataError, match="noto_emoji:styles; got noto_emoji:words"):
        open_data("noto_emoji:words", "train", SHAPE, manual_dir=tiny)
    for shape in ((32, 32, 1), (32, 16, 3), (32, 32)):
        with pytest.raises(DataError, match=r"\(size, size, 3\); got"):
            open_data("noto_emoji", "train", shape, manual_dir=tiny)


def test_a_damaged_zip_is_refused(tiny):
    path = tiny / "noto-emoji-32.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no sound zip file"):
        open_data("noto_emoji", "train", SHAPE, manual_dir=tiny)
    at = whole.index(b"\x89PNG")
    path.write_bytes(whole[:at] + b"\0\0\0\0" + whole[at + 4 :])
    with pytest.raises(DataError, match=r"emoji_u1f400\.png in .* cannot be read"):
        open_data("noto_emoji", "train", SHAPE, manual_dir=tiny)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no emoji")
    with pytest.raises(DataError, match="holds no emoji"):
        open_data("noto_emoji", "train", SHAPE, manual_dir=tiny)


def test_the_environment_names_the_folder(tiny, monkeypatch):
    (tiny / "noto_emoji").mkdir()
    for name in ("noto-emoji-32.zip", "captions.tsv"):
        (tiny / name).rename(tiny / "noto_emoji" / name)
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tiny))
    assert len(open_data("noto_emoji", "train", SHAPE)) == 18
    assert len(captions("train")) == 18


def test_every_picture_of_the_real_zip_has_its_place(noto):
    data = {
        split: open_data("noto_emoji", split, SHAPE, True, noto)
        for split in ("train", "test")
    }
    assert (len(data["train"]), len(data["test"])) == (3189, 354)
    counts = sum(np.bincount(part.labels, minlength=9) for part in data.values())
    assert counts.tolist() == [169, 2285, 155, 135, 218, 85, 264, 224, 8]
    names = [{family(name) for name in files(split, noto)} for split in data]
    assert not names[0] & names[1]
    assert len(captions("train", noto)) == 3189


def test_real_drawings_are_thin_dark_lines_on_white(noto):
    drawings, pictures = open_data("noto_emoji:drawings", "test", SHAPE, False, noto)[:]
    dark = (drawings[..., 0] < 128).mean(axis=(1, 2))
    assert 0.1 < np.median(dark) < 0.3
    assert (dark < 0.6).all()
    assert (drawings[..., 0] == drawings[..., 2]).all()
    # No line where the picture is white: the outline lies inside of it.
    assert (drawings[(pictures == 255).all(axis=-1)] == 255).all()


def test_real_styles_halve_the_emoji(noto):
    data = open_data("noto_emoji:styles", "train", SHAPE, manual_dir=noto)
    assert len(data) == 3189 // 2
    drawings, pictures = data[:]
    shared = {d.tobytes() for d in drawings} & {d.tobytes() for d in draw(pictures)}
    assert not shared
