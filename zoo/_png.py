"""Images as PNG files, with the standard library alone."""

import struct
import zlib

import numpy as np

from zoo._saving import whole


def encode_png(image):
    """Return the bytes of a PNG file of an image.

    Args:
        image: uint8, (height, width, 1) grey or (height, width, 3) RGB.
    """
    height, width, channels = image.shape
    rows = np.ascontiguousarray(image).reshape(height, width * channels)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)  # Filter 0 on each row.
    colour = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def grid(images, columns=None, gap=2):
    """Return images side by side as one uint8 image, on white.

    Args:
        images: (N, height, width, channels) in [0, 1].
        columns: Images in a row; about the square root of N when None.
        gap: Pixels between images.
    """
    images = np.asarray(images)
    num, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(num)))
    rows = -(-num // columns)
    height, width = height + gap, width + gap
    canvas = np.full(
        (rows * height + gap, columns * width + gap, channels), 255, "uint8"
    )
    for i, image in enumerate(_bytes(images)):
        top, left = i // columns * height + gap, i % columns * width + gap
        canvas[top : top + height - gap, left : left + width - gap] = image
    return canvas


def save_grid(path, images, columns=None):
    """Write a grid of images as a PNG file; each pixel is doubled, to be seen."""
    _write(path, grid(images, columns).repeat(2, axis=0).repeat(2, axis=1))


def save_image(path, image):
    """Write one image, (height, width, channels) in [0, 1], as a PNG file."""
    _write(path, _bytes(image))


def _bytes(images):
    return np.clip(np.asarray(images) * 255, 0, 255).round().astype("uint8")


def _write(path, picture):
    with whole(path) as scratch:
        scratch.write_bytes(encode_png(picture))
