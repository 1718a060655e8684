"""Fashion-MNIST as Debian's package dataset-fashion-mnist installs it: IDX files, sliced and shown as PNG. Standard library
only. As a program it writes training images as folder/class/number.png: fashion.py FOLDER CLASS ..."""

import gzip
import pathlib
import struct
import sys
import zlib

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def paths(split):
    """The images' and the labels' file of "train" or "t10k"."""
    return FOLDER / f"{split}-images-idx3-ubyte.gz", FOLDER / f"{split}-labels-idx1-ubyte.gz"


def load(split):
    """(images, labels, height, width): one bytes object an image."""
    images_path, labels_path = paths(split)
    with gzip.open(images_path) as f:
        magic, count, height, width = struct.unpack(">IIII", f.read(16))
        pixels = f.read()
    with gzip.open(labels_path) as f:
        labels = f.read()[8:]
    if magic != 0x803 or len(labels) != count or len(pixels) != count * height * width:
        raise ValueError(f"{images_path} and {labels_path} do not belong together")
    size = height * width
    return [pixels[i * size:(i + 1) * size] for i in range(count)], labels, height, width


def write_slice(split, per_class, folder):
    """Writes the first `per_class` images of each class as IDX files; their paths."""
    images, labels, height, width = load(split)
    left = [per_class] * len(NAMES)
    chosen = []
    for i, label in enumerate(labels):
        if left[label] > 0:
            left[label] -= 1
            chosen.append(i)
    images_path, labels_path = folder / f"{split}-images.gz", folder / f"{split}-labels.gz"
    with gzip.open(images_path, "wb", compresslevel=1) as f:
        f.write(struct.pack(">IIII", 0x803, len(chosen), height, width) + b"".join(images[i] for i in chosen))
    with gzip.open(labels_path, "wb", compresslevel=1) as f:
        f.write(struct.pack(">II", 0x801, len(chosen)) + bytes(labels[i] for i in chosen))
    return images_path, labels_path


def png(pixels, height, width):
    """One grey image as a PNG file."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + pixels[y * width:(y + 1) * width] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_folders(folder, classes, per_class=500):
    images, labels, height, width = load("train")
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        of_class = [i for i, label in enumerate(labels) if NAMES[label] == name][:per_class]
        for i in of_class:
            (folder / name / f"{i}.png").write_bytes(png(images[i], height, width))


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[2:]) <= set(NAMES):
        sys.exit(f"usage: fashion.py FOLDER CLASS ...   classes: {', '.join(NAMES)}")
    write_folders(pathlib.Path(sys.argv[1]), sys.argv[2:])
