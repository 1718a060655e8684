"""Small images that a small network tells apart after a few epochs: one colour and pattern a class, noise on top."""

import io
import struct
import tarfile
import zlib

import numpy
from PIL import Image

SIZE = 16
COLOURS = {"red": (200, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 210), "yellow": (210, 200, 40),
           "violet": (160, 50, 190), "grey": (120, 120, 120)}
CLASSES = list(COLOURS)


def pixels(label, seed):
    """One image (SIZE, SIZE, 3) of a class: stripes, discs or checks in its colour on a dark ground, somewhere."""
    rng = numpy.random.default_rng([CLASSES.index(label), seed])
    y, x = numpy.mgrid[0:SIZE, 0:SIZE] + rng.integers(0, SIZE, (2, 1, 1))
    pattern = ((x // 2) % 2, (y // 2) % 2, (x // 3 + y // 3) % 2,
               ((x % 8 - 4) ** 2 + (y % 8 - 4) ** 2 < 9), ((x + y) // 3) % 2, ((x - y) // 4) % 2)
    ground = numpy.array(COLOURS[label]) * pattern[CLASSES.index(label)][..., None]
    return numpy.clip(ground + rng.normal(30, 25, (SIZE, SIZE, 3)), 0, 255).astype(numpy.uint8)


def encode(array, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def png(label, seed):
    return encode(pixels(label, seed))


def jpeg(label, seed):
    return encode(pixels(label, seed), "JPEG")


def tar(labels, seeds, mislabelled=()):
    """A tar of class/image folders: for each label the images of these seeds, and (label, look, seed) of another look."""
    images = [(label, label, seed) for label in labels for seed in seeds]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for label, look, seed in [*images, *mislabelled]:
            data = png(look, seed)
            info = tarfile.TarInfo(f"./{label}/{look}-{seed}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def slow_tar(count, side):
    """A small tar that takes long to check: `count` images of few bytes and side * side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
        for kind, chunk in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes((side + 1) * side))), (b"IEND", b"")))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for i in range(count):
            info = tarfile.TarInfo(f"cat/{i}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
