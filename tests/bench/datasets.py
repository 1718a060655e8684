"""The benchmark's images, read from a folder of the user's: CIFAR-100, or class folders as of ILSVRC. Standard library only.

CIFAR-100 is `train.bin` and `test.bin` of the binary version, each also as .xz, or the official cifar-100-binary.tar.gz as it
is. A record is coarse label, fine label, then 1,024 bytes of red, green and blue each. None of it is part of this project.
"""

import lzma
import pathlib
import subprocess
import tarfile

RECORD = 3074
ARCHIVE = "cifar-100-binary"


def unpacked(folder, name):
    """The bytes of one file of the data set, wherever in the folder it is."""
    for path in (folder / name, folder / ARCHIVE / name):
        if path.exists():
            return path.read_bytes()
    if (folder / f"{name}.xz").exists():
        return lzma.decompress((folder / f"{name}.xz").read_bytes())
    if (folder / f"{ARCHIVE}.tar.gz").exists():
        with tarfile.open(folder / f"{ARCHIVE}.tar.gz") as archive:
            return archive.extractfile(f"{ARCHIVE}/{name}").read()
    raise FileNotFoundError(f"{folder} has neither {name}, {name}.xz nor {ARCHIVE}.tar.gz")


def query_of(split, holdout):
    return {"split": "test"} if split == "test" else {"holdout": holdout} if holdout else {}


class Cifar100:
    """Reads a split when it is first asked for."""

    CLASSES = 100

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.splits = {}
        names = self.folder / "fine_label_names.txt"
        self.names = names.read_text().split() if names.exists() else [f"class-{c}" for c in range(self.CLASSES)]

    def records(self, split):
        """By class: its records, in the order of the file."""
        if split not in self.splits:
            data = unpacked(self.folder, f"{split}.bin")
            if not data or len(data) % RECORD:
                raise ValueError(f"{split}.bin is no whole number of records of {RECORD} bytes")
            of_class = [[] for _ in range(self.CLASSES)]
            for at in range(0, len(data), RECORD):
                of_class[data[at + 1]].append(data[at:at + RECORD])
            self.splits[split] = of_class
        return self.splits[split]

    def upload(self, client, name, split, classes, holdout=0):
        """A batch of one split's images of some classes, the share `holdout` of each class to measure on; its object."""
        records = self.records(split)
        chosen = [record for c in classes for record in records[c]]
        query = {"format": "cifar100", "classes": ",".join(map(str, classes)),
                 "names": ",".join(self.names[c] for c in classes), **query_of(split, holdout)}
        return client.put(f"batches/{name}", b"".join(chosen), query)


class Folders:
    """FOLDER/train/CLASS/image and FOLDER/val/CLASS/image, JPEG or PNG; classes count in the order of their names."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if not (self.folder / "train").is_dir() or not (self.folder / "val").is_dir():
            raise FileNotFoundError(f"{folder} must have the folders train and val")
        self.names = sorted(p.name for p in (self.folder / "train").iterdir() if p.is_dir())

    def upload(self, client, name, split, classes, holdout=0):
        folder = self.folder / {"train": "train", "test": "val"}[split]
        command = ["tar", "-C", str(folder), "-c", *(self.names[c] for c in classes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
            reply = client.put(f"batches/{name}", tar.stdout, query_of(split, holdout))
        if tar.returncode != 0:
            raise OSError(f"tar could not read {folder}")
        return reply


SOURCES = {"cifar100": Cifar100, "folders": Folders}
