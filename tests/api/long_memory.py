"""Flat memory of uploads: whatever the form, 2 GB cost the daemon less than 64 MB over what it held when idle.

Not part of `make check`: `tests/run.sh long:build/release` runs it. The bodies are made while they are sent, and what they
become is removed with each test; one takes up to 6 GB of disk for a while. Forms of which only the reader differs are sent
with 400 MB: held in memory, these would be as much too many."""

import io
import itertools
import pathlib
import shutil
import struct
import tarfile
import tempfile
import zlib

import numpy
import pytest
import requests

from conftest import Client, Daemon

WHOLE = 2_000_000_000
PART = 400_000_000
MOST = 64_000_000
CHUNK = 1 << 20
NOISE = numpy.random.default_rng(1).bytes(8 << 20)
BOUNDARY = "5f1d8c7a"


def memory(daemon, field):
    """A figure of the process in bytes: VmRSS, resident with mapped files; VmHWM, the most that ever was."""
    for line in pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def forget_peak(daemon):
    pathlib.Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")


def noise(number, size):
    """`size` bytes that occur once: number, then noise."""
    start = number * 7919 % (len(NOISE) - size)
    return struct.pack("<Q", number) + NOISE[start:start + size - 8]


def png(number, side):
    """A colour image of noise, stored without compression: as many bytes as pixels, made at once."""
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row = 3 * side
    pixels = noise(number, side * row)
    rows = b"".join(b"\0" + pixels[at:at + row] for at in range(0, len(pixels), row))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) \
        + part(b"IDAT", zlib.compress(rows, 0)) + part(b"IEND", b"")


def gathered(parts, total):
    """Parts in chunks, until `total` bytes went by."""
    sent, chunk = 0, bytearray()
    for part in parts:
        chunk += part
        sent += len(part)
        if len(chunk) >= CHUNK or sent >= total:
            yield bytes(chunk)
            chunk.clear()
        if sent >= total:
            return


def tar_entry(name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def tar(total, side=64):
    """class/image folders."""
    entries = (tar_entry(f"class{number % 10}/{number}.png", png(number, side)) for number in itertools.count())
    yield from gathered(entries, total)
    yield bytes(2 * tarfile.BLOCKSIZE)


def gzipped(chunks):
    """As gzip in stored blocks: it is as large as what is in it."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    for chunk in chunks:
        if packed := packer.compress(chunk):  # an empty chunk would end the body
            yield packed
    yield packer.flush()


def cifar(total, labels):
    """Records of `labels` label bytes and 3072 of pixels."""
    count = total // (labels + 3072)
    records = (bytes([number % 10] * labels) + noise(number, 3072) for number in range(count))
    yield from gathered(records, count * (labels + 3072))


def part_head(name, filename=""):
    named = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()


def form(total, side=64):
    """A label, then its images, many times."""
    def parts():
        for number in itertools.count():
            if number % 1000 == 0:
                yield part_head("label") + b"class%d\r\n" % (number // 1000 % 10)
            yield part_head("image", f"{number}.png") + png(number, side) + b"\r\n"
    yield from gathered(parts(), total)
    yield f"--{BOUNDARY}--\r\n".encode()


def idx(total, side=46):
    """Two parts, of nearly as many images as a batch may have."""
    count = total // (side * side)
    yield part_head("images", "images-idx3-ubyte") + struct.pack(">IIII", 0x803, count, side, side)
    yield from gathered((noise(number, side * side) for number in range(count)), count * side * side)
    yield b"\r\n" + part_head("labels", "labels-idx1-ubyte") + struct.pack(">II", 0x801, count)
    yield (b"\0\1\2\3\4\5\6\7\x08\x09" * (count // 10 + 1))[:count]
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def large_file(total):
    """A tar whose one file is too large for an image, and a small one behind it."""
    info = tarfile.TarInfo("class0/large.png")
    info.size = total // CHUNK * CHUNK
    yield info.tobuf(tarfile.USTAR_FORMAT)
    yield from itertools.repeat(NOISE[:CHUNK], total // CHUNK)
    yield tar_entry("class0/small.png", png(0, 16)) + bytes(2 * tarfile.BLOCKSIZE)


def empty_blocks(total):
    """A gzip stream of nothing: stored blocks without a byte, and after them the small tar that they were put before."""
    small = tar_entry("class0/small.png", png(0, 16)) + bytes(2 * tarfile.BLOCKSIZE)
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    yield from gathered(itertools.repeat(b"\0\0\0\xff\xff" * 13107), total)
    yield b"\1" + struct.pack("<HH", len(small), len(small) ^ 0xffff) + small
    yield struct.pack("<II", zlib.crc32(small), len(small))


FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FORMS = {
    "tar": (tar, PART, {}, ""),
    "tar of small images, holdout": (lambda total: tar(total, 22), WHOLE, {"holdout": 0.2}, ""),
    "tar.gz": (lambda total: gzipped(tar(total)), PART, {}, ""),
    "tar of one large file": (large_file, PART, {}, ""),
    "gzip of empty blocks": (empty_blocks, PART, {}, ""),
    "CIFAR-10": (lambda total: cifar(total, 1), PART, {"format": "cifar10"}, ""),
    "CIFAR-100, holdout": (lambda total: cifar(total, 2), WHOLE, {"format": "cifar100", "holdout": 0.5}, ""),
    "CIFAR-10 in gzip": (lambda total: gzipped(cifar(total, 1)), PART, {}, ""),
    "multipart": (form, PART, {}, FORM_TYPE),
    "IDX": (idx, WHOLE, {}, FORM_TYPE),
}


@pytest.fixture
def roomy(tmp_path):
    """A daemon that takes such bodies, on a disk in memory if there is one with room: a real one would take minutes. Its
    directory is gone at once; pytest keeps those of its last runs."""
    shared = pathlib.Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < 4 * WHOLE:
        shared = tmp_path
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        daemon = Daemon(pathlib.Path(folder) / "data", max_upload_bytes=WHOLE + (64 << 20)).start()
        try:
            yield daemon
            daemon.stop()
        finally:
            if daemon.running():
                daemon.kill()
            print(daemon.log())


@pytest.mark.parametrize("name", FORMS)
def test_upload_memory_is_flat(roomy, name):
    body, total, query, content_type = FORMS[name]
    api = Client(roomy)
    idle = memory(roomy, "VmRSS")
    forget_peak(roomy)
    sent = 0

    def counted():
        nonlocal sent
        for chunk in body(total):
            sent += len(chunk)
            yield chunk
    reply = requests.put(roomy.url + "/api/v1/batches/large", data=counted(), params=query,
                         headers={"Content-Type": content_type}, timeout=600)
    peak = memory(roomy, "VmHWM")
    api.check("PUT", "/api/v1/batches/large", reply)
    assert reply.status_code == 201, reply.text
    batch = reply.json()
    print(f"{name}: {sent} bytes, {batch['accepted']} images, {(peak - idle) / 1e6:.1f} MB over idle ({idle / 1e6:.1f})")
    assert sent > total - CHUNK and batch["accepted"] > 0
    assert batch["rejected"] == (name == "tar of one large file") and batch["duplicates"] == 0
    assert peak - idle < MOST, f"{(peak - idle) / 1e6:.1f} MB over idle"
