"""Generative models in Keras 3, each in one file, with their trained weights.

    model = zoo.load("vae-mnist")           a name, a folder, hf:// or kaggle://
    images = model.generate(16, seed=0)     NumPy, the same on every backend

The table of contents: a model is imported, and Keras with it, when first asked for.
"""

import importlib
from pathlib import Path

MODELS = {
    "Autoencoder": "zoo.autoencoders.autoencoder",
    "VAE": "zoo.autoencoders.vae",
    "Classifier": "zoo.feedforward.classifier",
    "MADE": "zoo.feedforward.made",
    "NeuralNGram": "zoo.feedforward.ngram",
    "CharRNN": "zoo.recurrent.char_rnn",
    "ChoraleRNN": "zoo.recurrent.chorale_rnn",
    "SpeechRNN": "zoo.recurrent.speech_rnn",
    "Recognizer": "zoo.feedforward.recognizer",
    "GPT": "zoo.transformers.gpt",
    "BERT": "zoo.transformers.bert",
    "T5": "zoo.transformers.t5",
    "CycleGAN": "zoo.adversarial.cyclegan",
    "Pix2Pix": "zoo.adversarial.pix2pix",
    "DCGAN": "zoo.adversarial.dcgan",
    "WGANGP": "zoo.adversarial.wgan_gp",
    "DDPM": "zoo.diffusion.ddpm",
    "DiT": "zoo.diffusion.dit",
    "ConsistencyModel": "zoo.diffusion.consistency",
}

_here = Path(__file__).resolve().parent
if not (_here / "presets").is_dir():  # A checkout: presets, trainers, tools lie beside.
    __path__.append(str(_here.parent))

from zoo import _start  # noqa: E402
from zoo._registry import PresetError, load, presets  # noqa: E402

_start.choose()  # Before anything imports Keras.
_start.hasten()

__all__ = ["MODELS", "PresetError", "load", "presets", *MODELS]


def __getattr__(name):
    if name in MODELS:
        importlib.import_module("zoo._backend")
        return getattr(importlib.import_module(MODELS[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__():
    return __all__
