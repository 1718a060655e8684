#!/usr/bin/python3
"""Writes the seed inputs of the fuzz targets into tests/fuzz/corpus/<target>/: small, valid, one of each kind."""
import gzip
import base64
import io
import json
import lzma
import math
import pathlib
import struct
import subprocess
import tarfile

import numpy
from PIL import Image

CORPUS = pathlib.Path(__file__).parent / "corpus"


def save(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def picture(mode, form, **options):
    rng = numpy.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (12, 10, 4), dtype=numpy.uint8), "RGBA").convert("RGB").convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def images():
    for mode in ("L", "RGB", "P", "1", "LA", "RGBA", "I;16"):
        if mode == "I;16":
            image = Image.fromarray(numpy.arange(120, dtype=numpy.uint16).reshape(12, 10) * 500)
            out = io.BytesIO()
            image.save(out, "PNG")
            data = out.getvalue()
        else:
            data = picture(mode, "PNG")
        save("image", "png-" + mode.replace(";", "").lower(), data)
    for mode in ("L", "RGB", "CMYK"):
        save("image", "jpeg-" + mode.lower(), picture(mode, "JPEG", quality=60))
    save("image", "jpeg-progressive", picture("RGB", "JPEG", quality=60, progressive=True))


def multiparts():
    kind = b"multipart/form-data; boundary=X"
    body = (b'--X\r\nContent-Disposition: form-data; name="label"\r\n\r\ncat\r\n'
            b'--X\r\nContent-Disposition: form-data; name="image"; filename="a \\"1\\".png"\r\n'
            b"Content-Type: image/png\r\n\r\nbytes\r\n--X--\r\n")
    save("multipart", "two-parts", bytes([len(kind)]) + kind + body)
    quoted = b'multipart/form-data; charset=utf-8; boundary="a b"'
    save("multipart", "quoted", bytes([len(quoted)]) + quoted + body.replace(b"--X", b"--a b"))


def idx():
    images_file = struct.pack(">IIII", 0x803, 3, 2, 2) + bytes(range(12))
    labels_file = struct.pack(">II", 0x801, 3) + bytes((0, 1, 255))
    for name, pack in (("plain", lambda data: data), ("gzip", gzip.compress)):
        first = pack(images_file)
        save("idx", name, struct.pack("<H", len(first)) + first + pack(labels_file))


def cifar():
    ten, hundred = (b"".join(bytes(labels) + bytes(i % 251 for i in range(3072)) for labels in records)
                    for records in (((3,), (9,)), ((1, 4), (19, 99))))
    save("cifar", "ten-gzip", gzip.compress(ten, mtime=0))
    save("cifar", "hundred-xz", lzma.compress(hundred))
    zstd = subprocess.run(["zstd", "-c"], input=ten, capture_output=True, check=True).stdout
    save("cifar", "ten-zstd", zstd)
    save("cifar", "hundred", hundred[:3074])


def tarballs():
    for name, mode, form in (("ustar", "w", tarfile.USTAR_FORMAT), ("pax-gzip", "w:gz", tarfile.PAX_FORMAT),
                             ("gnu", "w", tarfile.GNU_FORMAT)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode, format=form) as tar:
            folder = tarfile.TarInfo("./cat")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for file in ("cat/1.png", "h\u00e9risson/2.png", "cat/" + "long" * 30):
                if form == tarfile.USTAR_FORMAT:
                    file = file[:90]
                data = file.encode()
                info = tarfile.TarInfo(file)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("cat/link")
            link.type = tarfile.SYMTYPE
            link.linkname = "/etc/passwd"
            tar.addfile(link)
        data = out.getvalue()
        save("tarball", name, data if mode == "w:gz" else data.rstrip(b"\0") + bytes(1024))


def v2():
    def request(name, inputs, binary=b"", header=True, **rest):
        text = json.dumps({"inputs": [inputs], **rest}, separators=(",", ":")).encode()
        save("v2", name, struct.pack("<H", len(text) if header else 0xffff) + text + binary)

    png = picture("RGB", "PNG")
    image = struct.pack("<I", len(png)) + png
    pixels = {"name": "pixels", "shape": [2, 3, 2, 2]}
    values = list(range(0, 240, 10))
    request("image-binary", {"name": "image", "shape": [2, 1], "datatype": "BYTES",
                             "parameters": {"binary_data_size": 2 * len(image)}}, 2 * image, id="7",
            outputs=[{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}, {"name": "label"}])
    request("image-base64", {"name": "image", "shape": [1], "datatype": "BYTES",
                             "data": [base64.b64encode(png).decode()]}, header=False)
    request("uint8-binary", {**pixels, "datatype": "UINT8", "parameters": {"binary_data_size": 24}}, bytes(values),
            parameters={"binary_data_output": True})
    request("fp32-binary", {**pixels, "datatype": "FP32", "parameters": {"binary_data_size": 96}},
            struct.pack("<24f", *values))
    request("fp32-flat", {**pixels, "datatype": "FP32", "data": values}, header=False)
    request("fp32-nested", {**pixels, "datatype": "FP32",
                            "data": numpy.reshape(values, (2, 3, 2, 2)).tolist()}, header=False)
    save("v2", "raw", struct.pack("<H", 0) + png)


def safetensors():
    shapes = {}
    layers = {"stem": (16, 1)}
    for stage, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        layers[f"stage{stage}.block0"] = (after, before)
    for place, (out, into) in layers.items():
        for i in (1,) if place == "stem" else (1, 2):
            shapes[f"{place}.conv{i}.weight"] = [out, into if i == 1 else out, 3, 3]
            shapes.update({f"{place}.bn{i}.{part}": [out] for part in ("gamma", "beta", "mean", "var")})
    for head, features in (("head", 64), ("aux1", 16), ("aux2", 32)):
        shapes.update({head + ".weight": [2, features], head + ".bias": [2]})
    shapes["covariance"] = [64 * 65 // 2]
    shapes["prototypes"] = [2, 64]
    metadata = {"accreted_format": "1", "mean": "[0.5]", "std": "[0.25]", "classifier": "head", "score_scale": "1",
                "labels": '["cat","dog"]', "spec": '{"blocks":1,"channels":1,"height":8,"width":8,"classes":2}'}
    header, at = {"__metadata__": metadata}, 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    save("safetensors", "header", b"h" + text)
    save("safetensors", "cut", b"f" + struct.pack("<Q", len(text)) + text + bytes(64))
    header["expert1.stem.conv1.weight"] = {"dtype": "F32", "shape": [0], "data_offsets": [at, at]}
    save("safetensors", "experts", b"h" + json.dumps(header, separators=(",", ":")).encode())
    save("safetensors", "metadata", b"f" + struct.pack("<Q", 2) + b"{}")


def container(kind, sections):
    """Without checksums: the target puts them right."""
    at, table, body = 32 + 32 * len(sections) + 8, b"", b""
    for name, data in sections:
        body += bytes(-at % 64)
        at += -at % 64
        table += struct.pack("<4sIQQQ", name.encode(), 0, at, len(data), 0)
        body += data
        at += len(data)
    return b"ACCRETED" + struct.pack("<IIIIQ", 1, kind, len(sections), 0, at) + table + bytes(8) + body


def snapshots():
    """ResNet-8 for one channel of 8x8 and two classes, in both forms of the kept weights, and a second step that shares them."""
    def frame(data):
        return subprocess.run(["zstd", "-19", "-c", f"--stream-size={len(data)}"], input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=True).stdout
    convolutions = [(1, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    weights, channels = sum(9 * a * b for a, b in convolutions), sum(b for _, b in convolutions)
    rng = numpy.random.default_rng(2)
    kept = numpy.zeros(weights, bool)
    kept[rng.integers(0, weights, 300)] = True
    rest = numpy.full(4 * channels + 2 * (64 + 16 + 32 + 3), 0.5, "<f2")
    spec = struct.pack("<8i9f", 0, 1, 1, 8, 8, 2, 1, 0, 1, 0.5, 0, 0, 0, 0.25, 0, 0, 0)
    covariance = ("COVA", numpy.full(64 * 65 // 2, 0.25, "<f4").tobytes())
    common = [("SPEC", spec), ("STEP", struct.pack("<i", 2)), covariance,
              ("MASK", frame(numpy.packbits(kept, bitorder="little").tobytes())),
              ("REST", rest.tobytes()), ("PROT", numpy.full(128, 0.125, "<f2").tobytes())]
    codes = rng.integers(-31, 32, kept.sum(), dtype=numpy.int8)
    save("snapshot", "codes", container(2, [*common, ("SCAL", struct.pack("<H", 0x3c00) * channels),
                                            ("CODE", frame(codes.tobytes()))]))
    save("snapshot", "halves", container(2, [*common, ("KEPT", (codes / 31).astype("<f2").tobytes())]))
    # The target itself writes the file below, called "base", which keeps a quarter, and puts the number right that identifies it.
    rest = numpy.full(4 * channels + 4 * (64 + 16 + 32 + 3), 0.5, "<f2")
    spec = struct.pack("<8i9f", 0, 1, 1, 8, 8, 4, 2, 0, 1, 0.5, 0, 0, 0, 0.25, 0, 0, 0)
    view = ("VIEW", struct.pack("<if", 1, 0.5))  # the base's too
    claimed = numpy.zeros((weights - 9 * 16) * 3 // 4, bool)
    claimed[::50] = True
    save("snapshot", "shared", container(2, [
        ("SPEC", spec), ("STEP", struct.pack("<2i", 2, 4)), view, covariance, ("BASE", struct.pack("<Q56s", 0, b"base")),
        ("MASK", frame(numpy.packbits(claimed, bitorder="little").tobytes())), ("REST", rest.tobytes()),
        ("PROT", numpy.full(256, 0.125, "<f2").tobytes()), ("KEPT", numpy.full(claimed.sum(), 0.25, "<f2").tobytes())]))
    # By itself, with that file as its expert.
    save("snapshot", "experts", container(2, [
        ("SPEC", spec), ("STEP", struct.pack("<2i", 2, 4)), view, ("EXPT", struct.pack("<56s", b"base")),
        ("COVH", struct.pack("<f", 0.5) + numpy.full(128 * 129 // 2, 0.5, "<f2").tobytes()),
        ("MASK", frame(numpy.packbits(kept, bitorder="little").tobytes())), ("REST", rest.tobytes()),
        ("PROT", numpy.full(512, 0.125, "<f2").tobytes()), ("KEPT", (codes / 31).astype("<f2").tobytes())]))


images()
multiparts()
idx()
cifar()
tarballs()
v2()
safetensors()
snapshots()
