"""The commands, as their user types them."""

import importlib.util
import json
import struct
import subprocess
import sys

import commands
import keras
import numpy as np
import pytest

import zoo
from zoo._png import encode_png, grid
from zoo._saving import write_card
from zoo.trainers.data import read_image

pytestmark = pytest.mark.once

PIL = pytest.importorskip("PIL.Image", reason="needs pillow, in [data]")


def run(*arguments, cwd, code=0, **environment):
    """Run `zoo …` and return what it says."""
    done = commands.zoo(*arguments, cwd=cwd, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a preset to train, and pictures of two labels to train it on."""
    folder = tmp_path_factory.mktemp("workshop")
    generator = np.random.default_rng(0)
    for label, colour in (("dark", 40), ("light", 200)):
        (folder / "pictures" / label).mkdir(parents=True)
        for i in range(24):
            noise = generator.integers(-30, 30, (12, 12, 3)) + colour
            image = PIL.fromarray(noise.astype("uint8"))
            image.save(folder / "pictures" / label / f"{i}.png")
    keras.utils.set_random_seed(0)
    model = zoo.VAE([8, 8, 1], 2, [16], classes=2)
    vars(model)["recipe"] = {
        "data": str(folder / "pictures"),
        "batch_size": 8,
        "epochs": 3,
        "optimizer": {"name": "adam", "learning_rate": 1e-2},
        "schedule": {"name": "cosine", "warmup": 0.1},
    }
    nll = {
        "value": None,
        "tolerance": 0.01,
        "protocol": "a few",
        "with": {"samples": 9},
    }
    model.save_preset(
        folder / "seedling", summary="A seedling.", metrics={"nll": nll}, pictures={}
    )
    return folder


def test_train_fine_tune_verify_and_generate(workshop):
    logged = ["--logdir", "logs"] if importlib.util.find_spec("tensorboard") else []
    said = run("train", "--preset", "seedling", "--out", "grown", *logged, cwd=workshop)
    assert bool(list(workshop.glob("logs/train/events*"))) == bool(logged)
    assert "Wrote grown, a preset of" in said
    card = json.loads((workshop / "grown" / "config.json").read_text())
    command = " ".join(["zoo train", *(["--logdir=logs"] if logged else [])])
    command += " --preset=seedling --out=runs/grown"
    assert card["recipe"]["command"] == command
    assert card["recipe"]["seed"] == 0
    assert len(list((workshop / "grown" / "samples").iterdir())) == 3
    losses = (workshop / "grown" / "log.csv").read_text().splitlines()[1:]
    assert float(losses[-1].split(",")[1]) < float(losses[0].split(",")[1])

    common = ("train", "--preset", "seedling", "--out", "grown")
    assert "--resume to go on" in run(*common, cwd=workshop, code=1)
    said = run(*common, "--resume", "--seed", 3, cwd=workshop, code=1)
    assert "seed: 0 there, 3 asked for" in said

    said = run("verify", "grown", "--update", cwd=workshop)
    assert "every number is written" in said
    said = run("verify", "grown", cwd=workshop)
    assert "every number is as its card says" in said
    card = json.loads((workshop / "grown" / "config.json").read_text())
    card["metrics"]["nll"]["value"] += 1.0
    write_card(workshop / "grown", card)
    said = run("verify", "grown", cwd=workshop, code=1)
    assert "Not as the card says: grown: nll" in said
    run(*common[:-1], "sown", "--seed", 3, cwd=workshop)
    said = run("verify", "grown", "--seeds", "grown", cwd=workshop, code=1)
    assert "grown differs from it in its seed 0, which another has" in said
    said = run("verify", "grown", "--seeds", "seedling", cwd=workshop, code=1)
    assert "seedling differs from it in dtype" in said
    assert "Wrote what 1 other" in run(
        "verify", "grown", "--seeds", "sown", cwd=workshop
    )
    card = json.loads((workshop / "grown" / "config.json").read_text())
    other = json.loads((workshop / "sown" / "config.json").read_text())
    nll = other["metrics"]["nll"]["value"]
    assert card["metrics"]["nll"]["seeds"] == {"3": nll}
    assert f"(seeds 3: {nll:g})" in (workshop / "grown" / "README.md").read_text()
    said = run("evaluate", "grown", "--metrics", "nll,elbo", "--json", cwd=workshop)
    results = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert results["elbo"] >= results["nll"]
    written = json.loads((workshop / "grown-metrics.json").read_text())
    assert written["metrics"] == results

    said = run(
        *("train", "--preset", "seedling", "--init", "grown", "--out", "tuned"),
        *("--learning_rate", 0.001, "--epochs", 1, "--dtype", "mixed_bfloat16"),
        cwd=workshop,
    )
    recipe = json.loads((workshop / "tuned" / "config.json").read_text())["recipe"]
    assert recipe["init"] == "grown"
    assert recipe["optimizer"]["learning_rate"] == 0.001
    assert recipe["epochs"] == 1
    assert recipe["dtype"] == "mixed_bfloat16"

    said = run("generate", "tuned", "--labels", "1,0,1", "--out", "x.png", cwd=workshop)
    assert "Wrote x.png, 3 samples of tuned in" in said
    with PIL.open(workshop / "x.png") as picture:
        assert picture.size == (2 * (2 * 10 + 2), 2 * (2 * 10 + 2))
    said = run("generate", "tuned", "--truncation", 0.5, cwd=workshop, code=1)
    assert "no condition 'truncation'; it takes labels" in said


def test_translate_writes_a_picture_for_each(workshop):
    keras.utils.set_random_seed(0)
    model = zoo.CycleGAN([8, 8, 3], [4], 1, [4], pool=1)
    model.save_preset(workshop / "styles")
    said = run("translate", "styles", "pictures", cwd=workshop, code=1)
    assert "has another source" in said  # Both subfolders have a 0.png.
    said = run("translate", "styles", "pictures/dark", cwd=workshop)
    assert "Wrote 24 translations by styles into styles-translated in" in said
    assert len(list((workshop / "styles-translated").iterdir())) == 24
    one = ["translate", "styles", "pictures/light/3.png", "--back", "--out", "painted"]
    assert "Wrote 1 translation by styles" in run(*one, cwd=workshop)
    source = read_image(workshop / "pictures/light/3.png", model.image_shape)
    expected = model.translate(source[None], back=True)[0]
    with PIL.open(workshop / "painted/3.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 255, expected, atol=0.01)
    assert "painted/3.png, which exists" in run(*one, cwd=workshop, code=1)
    said = run("translate", "styles", "nowhere", cwd=workshop, code=1)
    assert "takes pictures, or folders of them" in said
    said = run("translate", "vae-mnist", "pictures/light", cwd=workshop, code=1)
    assert "VAE has no verb 'translate'" in said
    assert not (workshop / "vae-mnist-translated").exists()


def test_list_and_info_import_no_keras(tmp_path):
    code = (
        "import sys\n"
        "from zoo.tools.main import run\n"
        "try:\n"
        "    run()\n"
        "finally:\n"
        "    heavy = {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    for arguments in (["list"], ["list", "--json"], ["info", "vae-mnist"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        if "--json" in arguments:
            names = [row["name"] for row in json.loads(done.stdout)]
            assert names == zoo.presets()
        else:
            assert "vae-mnist" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["generate", "vae-minst"], "Did you mean 'vae-mnist'?"),
        (["generate"], "takes one preset"),
        (["generate", "vae-mnist", "--out", "x.jpg"], "--out is a .png"),
        (["info"], "takes one preset"),
        (["translate", "vae-mnist"], "takes a preset and pictures"),
        (["verify"], "takes presets, or --all"),
        (["train", "--preset", "vae-mnist"], "--preset NAME and --out DIR"),
        (["draw"], "zoo has no verb 'draw'; it has list"),
    ],
)
def test_wrong_commands_say_what_is_right(arguments, text, tmp_path):
    code = 2 if arguments == ["draw"] else 1
    said = run(*arguments, cwd=tmp_path, code=code)
    assert text in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_sampling_on_jax_and_torch_never_imports_tensorflow(tmp_path):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is the backend that runs")
    code = (
        "import sys, zoo\n"
        "zoo.VAE().generate(2, seed=0)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_png_is_what_pillow_reads(tmp_path):
    images = np.random.default_rng(0).random((5, 6, 4, 3))
    picture = grid(images, columns=3, gap=1)
    assert picture.shape == (2 * 7 + 1, 3 * 5 + 1, 3)
    np.testing.assert_array_equal(picture[1:7, 1:5], np.round(images[0] * 255))
    for image in (picture, picture[..., :1]):
        (tmp_path / "x.png").write_bytes(encode_png(image))
        with PIL.open(tmp_path / "x.png") as read:
            np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
    assert struct.unpack(">II", encode_png(picture)[16:24]) == (16, 15)


def test_a_preset_without_a_recipe_says_what_to_give(tmp_path):
    zoo.VAE([8, 8, 1], 2, [16]).save_preset(tmp_path / "bare")
    said = run("train", "--preset", "bare", "--out", "x", cwd=tmp_path, code=1)
    assert "says no data, batch_size, epochs" in said
    said = run("evaluate", "bare", "--metrics", "nll", cwd=tmp_path, code=1)
    assert "say --data" in said
    assert not (tmp_path / "x").exists()
