"""SentencePiece, as the published T5 read and write, by the library of that name.

Kudo & Richardson, 2018, https://arxiv.org/abs/1808.06226: a text is normalised, its
spaces become a letter of their own, and it is cut into the pieces that are likeliest
together (Kudo, 2018, https://arxiv.org/abs/1804.10959).
"""

import base64
import zlib

import numpy as np

LARGEST = 10_000_000  # bytes of a model


def packed(file):
    """Return the bytes of a SentencePiece model as a text: deflated, in base64."""
    return base64.b64encode(zlib.compress(file, 9)).decode("ascii")


class SentencePieces:
    """A vocabulary of pieces of text.

    Attributes:
        pad, end: Numbers of the pieces that fill up and that end a text.

    Args:
        model: A SentencePiece model, its file as `packed` gives it.

    Raises:
        ValueError: It is none, or has no piece for padding or the end of a text.
        ImportError: sentencepiece is not installed.
    """

    def __init__(self, model):
        try:
            import sentencepiece
        except ImportError as error:
            raise ImportError(
                "A published T5 reads by sentencepiece, which is not installed: "
                'pip install "generative-zoo[hub]".'
            ) from error
        try:
            file = base64.b64decode(model, validate=True)
            file = zlib.decompressobj().decompress(file, LARGEST)
            if not file:  # Which makes a processor without any pieces.
                raise ValueError("it is empty.")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=file)
            self.pad, self.end = self._pieces.pad_id(), self._pieces.eos_id()
        except (TypeError, ValueError, RuntimeError, zlib.error) as error:
            raise ValueError(
                "sentencepiece is the file of a SentencePiece model, deflated, in "
                f"base64; this is none: {error}"
            ) from error
        if min(self.pad, self.end) < 0:
            raise ValueError(
                "The SentencePiece model has no piece for padding or none for the end "
                "of a text, <pad> and </s> of T5."
            )

    def __len__(self):
        return self._pieces.get_piece_size()

    def encode(self, text, name="text"):
        """Return the numbers of a text, (length,) int32; what is unknown is <unk>."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        return np.array(self._pieces.encode(text), "int32")

    def decode(self, numbers):
        """Return the text of numbers; those that no piece has say nothing."""
        there = np.ravel(numbers)
        return self._pieces.decode([int(n) for n in there if 0 <= n < len(self)])
