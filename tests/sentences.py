"""A small SentencePiece model, trained on the spot, with the numbers of T5."""

import io

import pytest

SAID = ["the dog sees the cat", "der Hund sieht die Katze", "a cat and a dog"]


def trained():
    """Return the file of a model of some pieces of SAID."""
    library = pytest.importorskip("sentencepiece", reason="is in [hub]")
    file = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(SAID * 9),
        model_writer=file,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    )
    return file.getvalue()
