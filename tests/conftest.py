"""Warnings are errors; what a test needs and has not got is a skip that says so."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """The prepared MNIST of TFDS, as (split, labels) -> Data."""
    folder = SHARED / "mnist"
    if not folder.is_dir():
        pytest.skip("needs MNIST's files in ../shared/data/mnist")
    from zoo.trainers.data import open_data

    os.environ.setdefault("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))

    def mnist(split, labels=False):
        return open_data("tfds:mnist", split, (28, 28, 1), labels, folder)

    mnist.folder = folder
    return mnist
