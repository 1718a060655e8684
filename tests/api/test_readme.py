"""The commands of the README's tour, pasted one after the other as a reader would, against a daemon on another port."""

import pathlib
import re
import subprocess

import images
from conftest import ROOT


def tour():
    """The shell lines of the section, without the one that starts the daemon."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"^## The API by curl\n(.*?)^## ", text, re.M | re.S).group(1)
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    assert len(blocks) >= 4
    return "".join(blocks)


def test_every_command_works_when_pasted(daemon, tmp_path):
    script = tour().replace("127.0.0.1:8080", f"127.0.0.1:{daemon.port}")
    assert script.count(str(daemon.port)) >= 10
    # The daemon runs already; the pictures are ours, so that this does not hang on another package.
    script = re.sub(r"^make$\n", "", script, flags=re.M)
    script = re.sub(r"^build/release/accreted .*\n", "", script, flags=re.M)
    script = re.sub(r"^/usr/bin/python3 tests/demo/fashion.py .*\n", "", script, flags=re.M)
    for label, name in (("red", "bag"), ("blue", "boot"), ("green", "coat"), ("yellow", "dress")):
        folder = tmp_path / ("photos" if name in ("bag", "boot") else "more") / name
        folder.mkdir(parents=True)
        for seed in range(30):
            (folder / f"{seed}.png").write_bytes(images.png(label, seed))
    (tmp_path / "photo.png").write_bytes(images.png("red", 99))
    curl = "curl() { command curl --fail-with-body -sS \"$@\"; }\n"
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", curl + script], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"class"' in done.stdout
