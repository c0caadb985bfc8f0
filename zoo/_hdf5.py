"""Read plain HDF5 files without HDF5, which a file that means harm can bring down.

The library takes all memory, or worse, for some files of a few bytes. What h5py writes
of groups and arrays is simple, and all that is read here; the rest is refused. An array
is one block of numbers, as they are or shuffled and deflated. Sections are those of the
HDF5 File Format Specification 3.0,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

import math
import os
import struct
import zlib

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SPACE, TYPE, LAYOUT, FILTERS, CONTINUED, GROUP = 1, 3, 8, 0xB, 0x10, 0x11  # IV.A.2
MESSAGES = (SPACE, TYPE, LAYOUT, FILTERS, GROUP)
SKIPPED = {0x0, 0x4, 0x5, 0xC, 0xD, 0xE, 0x12}  # Padding, fill values, notes, times.
REFUSED = {
    0x2: "has links of a newer kind",
    0x6: "has links of a newer kind",
    0x7: "is not one plain block of numbers in the file but in another",
}
CLASSES = (  # IV.A.2.d
    *("whole numbers", "other floating-point numbers", "times", "text", "bits"),
    *("opaque bytes", "records", "references", "choices", "lists", "arrays", "others"),
)
MOST_MESSAGES = 100  # of a group or array, which has about six
DEEPEST_TREE = 4  # 16 million names
PART = 65_536  # Bytes that are read at once of what is deflated


def _float(bits, exponent, fraction):
    """Return the datatype message of an IEEE number, little-endian; IV.A.2.d."""
    sizes = (0, bits, fraction, exponent, 0, fraction, 2 ** (exponent - 1) - 1)
    return struct.pack("<4BIHH4BI", 0x11, 0x20, bits - 1, 0, bits // 8, *sizes)


def _deflated(size):
    """Return the filter pipeline message of numbers of `size` bytes; IV.A.2.l."""
    filters = (2, 8, 1, 1, b"shuffle", size, 0), (1, 8, 1, 1, b"deflate", 9, 0)
    return b"\1\2" + bytes(6) + b"".join(struct.pack("<4H8sII", *f) for f in filters)


FLOATS = {_float(32, 8, 23): np.dtype("<f4"), _float(16, 5, 10): np.dtype("<f2")}


class Reader:
    """The groups and arrays of an HDF5 file.

    Args:
        file: Open for reading in binary.

    Raises:
        ValueError: From each method, for bytes that are not of the plain form.
    """

    def __init__(self, file):
        self.file, self.size = file, os.fstat(file.fileno()).st_size

    def items(self):
        """Yield path and header of all groups and arrays, a group before its items.

        A header is a dict of messages; that of a group has the key GROUP.
        """
        signature, version = self._unpack("<8sB", 0)  # Superblock, II.A
        more = "4x" if version == 1 else ""  # How wide trees of arrays are.
        head = self._unpack(f"<9x7B8x{more}4Q8xQ", 0)
        *versions, base, _, end, driver, root = head
        plain = version < 2 and versions == [0, 0, 0, 0, 8, 8, 0]
        plain = plain and driver == 2**64 - 1
        if signature != SIGNATURE or not plain or base or end != self.size:
            raise ValueError("it is no HDF5 file of the plain kind, or not all of it.")
        yield from self._items("", self._header(root, "/"))

    def array(self, name, header, shape):
        """Read an array that is one block of float16 or float32 and has `shape`."""
        (kind,) = self._message(header, TYPE, "<B7x")
        form = FLOATS.get(self._start(header, TYPE, 20))
        if form is None:
            held = CLASSES[min(kind & 15, 11)]
            raise ValueError(f"{name} is of {held}, not float16 or float32.")
        version, rank = self._message(header, SPACE, "<BB6x")
        found = self._message(header, SPACE, f"<8x{rank}Q")
        if version != 1 or found != shape:
            raise ValueError(f"{name} has the shape {found}; the model needs {shape}.")
        layout = self._message(header, LAYOUT, "<BB"), FILTERS in header
        read = {((3, 1), False): self._plain, ((3, 2), True): self._packed}.get(layout)
        data = read and read(header, form, shape)
        if data is None:
            raise ValueError(
                f"{name} is not one block of numbers, as they are or deflated."
            )
        return data.reshape(shape)

    def _plain(self, header, form, shape):
        """Return the numbers of a contiguous array, None if it is another."""
        at, size = self._message(header, LAYOUT, "<2xQQ")
        count = math.prod(shape)
        if size == count * form.itemsize and at + size <= self.size:
            self.file.seek(at)
            return np.fromfile(self.file, form, count)

    def _packed(self, header, form, shape):
        """Return the numbers of a chunked array of one chunk, None if it is another.

        It is half as long as the numbers or longer, so that no short file is long.
        """
        rank, size = len(shape) + 1, math.prod(shape) * form.itemsize
        dimensions, tree, *chunk = self._message(header, LAYOUT, f"<2xBQ{rank}I")
        node = self._unpack("<4sBBH16x", tree)
        length, skipped, *start, at = self._unpack(f"<24xII{rank}QQ", tree)
        if (
            (dimensions, chunk) != (rank, [*shape, form.itemsize])
            or self._start(header, FILTERS, 56) != _deflated(form.itemsize)
            or (node, skipped, any(start)) != ((b"TREE", 1, 0, 1), 0, False)
            or not size <= 2 * length <= 2 * (self.size - at)
        ):
            return None
        self.file.seek(at)
        inflate, data = zlib.decompressobj(), bytearray()
        while length and len(data) <= size:  # In parts: only numbers take memory.
            part = self.file.read(min(length, PART))
            length -= len(part)
            try:
                data += inflate.decompress(part, size + 1 - len(data))
            except zlib.error:
                return None
        if len(data) == size and inflate.eof and not inflate.unused_data:
            return unshuffled(data, form)

    def _unpack(self, form, at):
        if at + struct.calcsize(form) > self.size:
            raise ValueError("it points out of itself.")
        self.file.seek(at)
        return struct.unpack(form, self.file.read(struct.calcsize(form)))

    def _message(self, header, kind, form):
        at, size = header.get(kind, (0, 0))
        if size < struct.calcsize(form):
            raise ValueError(f"it has a group or array without its message {kind}.")
        return self._unpack(form, at)

    def _start(self, header, kind, most):
        at, size = header.get(kind, (0, 0))
        return self._unpack(f"<{min(size, most)}s", at)[0]

    def _header(self, at, name):
        """Return the messages of an object, kind to address and size; IV.A.1.a."""
        version, count, size = self._unpack("<BxH4xI4x", at)
        if version != 1 or count > MOST_MESSAGES:
            raise ValueError(f"{name!r} is stored in an unusual way.")
        blocks, found = [(at + 16, size)], {}
        for at, size in blocks:  # Which grows, by less than `count`.
            end = at + size
            while count and at < end:
                kind, size, flags = self._unpack("<HHB3x", at)
                at, count = at + 8, count - 1
                known = kind in MESSAGES and kind not in found
                if not (known or kind == CONTINUED or kind in SKIPPED) or flags & 2:
                    why = REFUSED.get(kind, f"is stored in an unusual way ({kind})")
                    raise ValueError(f"{name!r} {why}.")
                if at + size > end:
                    raise ValueError(f"{name!r} ends too early.")
                if kind == CONTINUED:
                    blocks.append(self._unpack("<QQ", at))
                elif known:
                    found[kind] = at, size
                at += size
        return found

    def _items(self, path, header):
        tree, heap = self._message(header, GROUP, "<QQ")
        for offset, at, cached in self._entries(tree):
            name = f"{path}/{self._name(heap, offset)}"
            if cached > 1:
                raise ValueError(f"{name!r} is a link.")
            found = self._header(at, name)
            yield name, found
            if GROUP in found:
                yield from self._items(name, found)

    def _entries(self, at, depth=None):
        """Yield the symbol table entries below a node of a B-tree; III.A.1, III.B.

        Each node but the first leads to an entry, so that no tree goes on for long
        without a name; names are seen to by who reads them.
        """
        signature, kind, level, count = self._unpack("<4sBBH16x", at)
        first = depth is None
        if (
            signature != b"TREE"
            or kind
            or level > DEEPEST_TREE
            or not (first or (level == depth and count))
        ):
            raise ValueError("it has a group without a tree of names.")
        for child in self._unpack(f"<24x{2 * count}Q", at)[1::2]:
            if level:
                yield from self._entries(child, level - 1)
                continue
            signature, version, symbols = self._unpack("<4sBxH", child)
            if signature != b"SNOD" or version != 1 or not symbols:
                raise ValueError("it has a group without a table of names.")
            for number in range(symbols):
                yield self._unpack("<QQI20x", child + 8 + 40 * number)

    def _name(self, heap, offset):
        """Return a text of a group's local heap; III.D."""
        signature, version, size, at = self._unpack("<4sB3xQ8xQ", heap)
        if signature != b"HEAP" or version or offset >= size or at + size > self.size:
            raise ValueError("it has a group without names.")
        self.file.seek(at + offset)
        name, end, _ = self.file.read(min(size - offset, 256)).partition(b"\0")
        if not name or not end or b"/" in name:
            raise ValueError(f"it has a group with a name such as {name[:30]!r}.")
        return name.decode("utf-8", "backslashreplace")


def shuffled(array):
    """Return the bytes of an array, all first ones before all second ones."""
    size = array.dtype.itemsize
    return np.ascontiguousarray(array).view("u1").reshape(-1, size).T.tobytes()


def unshuffled(data, form):
    """Return the numbers whose bytes `shuffled` returned."""
    return np.frombuffer(data, "u1").reshape(form.itemsize, -1).T.copy().view(form)
