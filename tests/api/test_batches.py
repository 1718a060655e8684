"""Uploads over HTTP: what is accepted, what each bad input is answered, and that a refusal changes nothing.

`daemon` is a fresh daemon, `api` asks it and checks every reply against schema/. A body over the limit is
test_http.py's."""

import concurrent.futures
import gzip
import io
import struct
import subprocess
import tarfile
import time

import numpy
import pytest
import requests
from PIL import Image

BATCHES = "/api/v1/batches"


# ---- making uploads ----

def png(seed, size=8, mode="L"):
    shape = (size, size) if mode == "L" else (size, size, 3)
    pixels = numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


def jpeg(seed, size=16):
    out = io.BytesIO()
    Image.open(io.BytesIO(png(seed, size, "RGB"))).save(out, "JPEG")
    return out.getvalue()


def tar(files, mode="w", form=tarfile.PAX_FORMAT):
    """`files`: path -> bytes, or None for a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            if data is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def two_classes(per_class=3, first_seed=0):
    return {f"./{label}/{i}.png": png(first_seed + 1000 * k + i)
            for k, label in enumerate(("cat", "dog")) for i in range(per_class)}


def idx(count=12, classes=3, size=4):
    """Images and labels 0, 1, 2, 0, 1, 2 ... as two IDX files."""
    pixels = numpy.random.default_rng(7).integers(0, 256, (count, size, size), dtype=numpy.uint8)
    labels = bytes(i % classes for i in range(count))
    return (struct.pack(">IIII", 0x803, count, size, size) + pixels.tobytes(),
            struct.pack(">II", 0x801, count) + labels)


def idx_files(images, labels):
    return {"images": ("images-idx3-ubyte", images), "labels": ("labels-idx1-ubyte", labels)}


# ---- judging ----

def names(api):
    return [b["name"] for b in api.get(BATCHES).json()["batches"]]


def files_left(daemon):
    """What uploads left in the data directory; the spool goes a moment after the reply."""
    tmp = daemon.data_dir / "tmp"
    deadline = time.monotonic() + 5
    while any(tmp.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    packs = daemon.data_dir / "batches"
    return sorted(p.name for p in tmp.iterdir()), sorted(p.name for p in packs.iterdir())


def assert_problem(reply, status, code):
    assert (reply.status_code, reply.json().get("code")) == (status, code), reply.text
    assert len(reply.json()["detail"]) > 10


def assert_refused(api, daemon, reply, status, code):
    assert_problem(reply, status, code)
    assert names(api) == []
    assert files_left(daemon) == ([], [])


def verdicts(batch):
    return {v["file"]: (v["verdict"], v["reason"]) for v in batch["verdicts"]}


def counts(batch):
    return {c["name"]: (c["train_images"], c["test_images"]) for c in batch["classes"]}


# ---- what is accepted ----

def flipped(data, at):
    """One bit of byte `at` changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_tar_by_put(api, daemon, pack):
    reply = api.put(BATCHES + "/week-12", data=pack(tar({"./cat": None, **two_classes()})))
    assert reply.status_code == 201, reply.text
    assert reply.headers["Location"] == BATCHES + "/week-12"
    batch = reply.json()
    assert batch["name"] == "week-12"
    assert batch["state"] == "ready"
    assert counts(batch) == {"cat": (3, 0), "dog": (3, 0)}
    assert (batch["accepted"], batch["rejected"], batch["duplicates"]) == (6, 0, 0)
    assert [w["code"] for w in batch["warnings"]] == ["few_images"]
    assert api.get(BATCHES + "/week-12").json() == batch
    pack = daemon.data_dir / "batches" / (batch["hash"] + ".train")
    assert pack.stat().st_size == batch["train_bytes"]
    assert files_left(daemon) == ([], [pack.name])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_of_any_language(api, form):
    files = {"hérisson/1.png": png(1), "猫/" + "長" * 20 + ".png": png(2), "猫/bad.png": b"text"}
    batch = api.put(BATCHES + "/names", data=tar(files, form=form)).json()
    assert counts(batch) == {"hérisson": (1, 0), "猫": (1, 0)}
    assert verdicts(batch) == {"猫/bad.png": ("rejected", "unknown_format")}


def test_each_file_is_answered(api):
    files = two_classes()
    good = files["./cat/0.png"]
    files["./cat/copy.png"] = good
    files["./dog/mine.png"] = good
    files["./cat/cut.jpg"] = jpeg(5)[:200]
    files["./cat/notes.txt"] = b"no image"
    files["./cat/._0.png"] = b"AppleDouble"
    files["loose.png"] = png(77)
    files["../cat/up.png"] = png(78)
    reply = api.put(BATCHES + "/mixed", data=tar(files))
    assert reply.status_code == 201, reply.text
    batch = reply.json()
    assert (batch["accepted"], batch["rejected"], batch["duplicates"]) == (6, 5, 1)
    assert verdicts(batch) == {
        "./cat/copy.png": ("duplicate", "duplicate_image"),
        "./dog/mine.png": ("rejected", "conflicting_label"),
        "./cat/cut.jpg": ("rejected", "damaged_image"),
        "./cat/notes.txt": ("rejected", "unknown_format"),
        "./cat/._0.png": ("ignored", "hidden_file"),
        "loose.png": ("rejected", "bad_path"),
        "../cat/up.png": ("rejected", "bad_path"),
    }


def test_multipart(api):
    parts = [("label", (None, "cat")), ("image", ("a.png", png(1))), ("image", ("b.jpg", jpeg(2))),
             ("label", (None, "dög")), ("image", ("c.png", png(3, mode="RGB"))),
             ("image", ("bad.png", b"text"))]
    reply = api.post(BATCHES, files=parts)
    assert reply.status_code == 201, reply.text
    batch = reply.json()
    assert batch["name"].startswith("batch-") and len(batch["name"]) == 18
    assert counts(batch) == {"cat": (2, 0), "dög": (1, 0)}
    assert verdicts(batch) == {"bad.png": ("rejected", "unknown_format")}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx(api, pack):
    images, labels = idx()
    files = idx_files(pack(images), pack(labels))
    reply = api.post(BATCHES, params={"classes": "2,0", "names": "coat,t-shirt", "name": "two"}, files=files)
    assert reply.status_code == 201, reply.text
    assert list(counts(reply.json()).items()) == [("coat", (4, 0)), ("t-shirt", (4, 0))]
    whole = api.post(BATCHES, files=files)
    assert whole.status_code == 201, whole.text
    assert list(counts(whole.json())) == ["0", "1", "2"]


@pytest.mark.parametrize("kind", [None, "image/png", "image/jpeg", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("picture", [png(1), jpeg(1)], ids=["png", "jpeg"])
def test_one_image(api, kind, picture):
    """curl -T sends no Content-Type, curl --data-binary that of a form: the first bytes tell."""
    headers = {"Content-Type": kind} if kind else {}
    stored = api.put(BATCHES + "/one", params={"label": "hérisson du soir"}, data=picture, headers=headers)
    assert stored.status_code == 201, stored.text
    assert counts(stored.json()) == {"hérisson du soir": (1, 0)}
    assert [w["code"] for w in stored.json()["warnings"]] == ["few_images"]
    tested = api.post(BATCHES, params={"label": "cat", "split": "test"}, data=picture, headers=headers)
    assert tested.status_code == 201, tested.text
    assert counts(tested.json()) == {"cat": (0, 1)}


def test_one_image_judged_or_held_out(api, daemon):
    query = {"label": "cat", "holdout": "0.9"}  # one is always left to train on
    dry = api.put(BATCHES + "/one", params={**query, "dry_run": "1"}, data=png(1))
    assert (dry.status_code, dry.json()["state"], counts(dry.json())) == (200, "not_stored", {"cat": (1, 0)})
    assert (names(api), files_left(daemon)) == ([], ([], []))
    assert counts(api.put(BATCHES + "/one", params=query, data=png(1)).json()) == {"cat": (1, 0)}


def test_split_and_holdout(api, daemon):
    test = api.put(BATCHES + "/t", params={"split": "test"}, data=tar(two_classes())).json()
    assert counts(test) == {"cat": (0, 3), "dog": (0, 3)}
    assert (test["train_images"], test["train_bytes"], test["warnings"]) == (0, 0, [])
    held = api.put(BATCHES + "/h", params={"holdout": "0.2"}, data=tar(two_classes(10, 50))).json()
    assert counts(held) == {"cat": (8, 2), "dog": (8, 2)}
    few = api.put(BATCHES + "/f", params={"holdout": "0.9"}, data=tar(two_classes(1, 90))).json()
    assert counts(few) == {"cat": (1, 0), "dog": (1, 0)}
    packs = [b["hash"] + "." + split for b in (test, held, few) for split in ("train", "test")
             if b[split + "_images"]]
    assert files_left(daemon) == ([], sorted(packs))


def test_warns_of_imbalance(api):
    files = {f"common/{i}.png": png(i) for i in range(221)}
    files |= {f"rare/{i}.png": png(500 + i) for i in range(20)}
    batch = api.put(BATCHES + "/b", data=tar(files)).json()
    assert [w["code"] for w in batch["warnings"]] == ["imbalance"]
    assert "rare" in batch["warnings"][0]["detail"]


# ---- the same again ----

def put_at_once(daemon, bodies):
    def put(body):
        return requests.put(daemon.url + BATCHES + "/race", data=body, timeout=60)
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(put, bodies))


def test_put_is_idempotent(api, daemon):
    body = tar(two_classes())
    first = api.put(BATCHES + "/a", data=body)
    again = api.put(BATCHES + "/a", data=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    # Another archive of the same images, in another order, is the same content.
    repacked = tar(dict(reversed(two_classes().items())), "w:gz")
    assert api.put(BATCHES + "/a", data=repacked).status_code == 200
    assert_problem(api.put(BATCHES + "/a", data=tar(two_classes(4))), 409, "batch_exists")
    assert_problem(api.put(BATCHES + "/a", params={"split": "test"}, data=body), 409, "batch_exists")
    # Under another name it is another batch, with files of its own.
    other = api.put(BATCHES + "/b", data=body)
    assert other.status_code == 201
    assert names(api) == ["b", "a"]
    hashes = [first.json()["hash"], other.json()["hash"]]
    assert files_left(daemon) == ([], sorted(h + ".train" for h in hashes))


def test_post_is_named_by_its_content(api):
    first = api.post(BATCHES, data=tar(two_classes()))
    assert first.status_code == 201
    for body in (tar(two_classes()), tar(two_classes(), "w:gz")):
        again = api.post(BATCHES, data=body)
        assert again.status_code == 200
        assert again.json() == first.json()
    assert api.post(BATCHES, data=tar(two_classes(4))).status_code == 201
    assert len(names(api)) == 2


def test_one_image_again(api):
    def post(label, data=png(1)):
        return api.post(BATCHES, params={"label": label}, data=data)
    first = post("cat")
    assert first.status_code == 201
    packed = io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(packed, "PNG", compress_level=0)
    assert packed.getvalue() != png(1)
    form = api.post(BATCHES, files=[("label", (None, "cat")), ("image", ("a.png", png(1)))])
    for again in (post("cat"), post("cat", packed.getvalue()), form):
        assert (again.status_code, again.json()) == (200, first.json())
    # The same pixels of another class are another batch, and other pixels under a name are a conflict.
    assert post("dog").status_code == 201
    assert len(names(api)) == 2
    name = first.json()["name"]
    for label, data in (("cat", png(2)), ("dog", png(1))):
        reply = api.put(f"{BATCHES}/{name}", params={"label": label}, data=data)
        assert_problem(reply, 409, "batch_exists")


def test_equal_uploads_race(api, daemon):
    bodies = [tar(two_classes(40)), tar(two_classes(40), "w:gz")] * 3
    replies = put_at_once(daemon, bodies)
    assert sorted(r.status_code for r in replies) == [200] * 5 + [201]
    assert len({r.json()["hash"] for r in replies}) == 1
    assert names(api) == ["race"]
    assert files_left(daemon) == ([], [replies[0].json()["hash"] + ".train"])


def test_different_uploads_race_for_a_name(api, daemon):
    bodies = [tar(two_classes(40, seed)) for seed in (0, 100, 200, 300)]
    replies = put_at_once(daemon, bodies)
    assert sorted(r.status_code for r in replies) == [201, 409, 409, 409]
    winner = next(r.json() for r in replies if r.status_code == 201)
    assert api.get(BATCHES + "/race").json() == winner
    assert files_left(daemon) == ([], [winner["hash"] + ".train"])


# ---- bad input ----

TAR_REFUSALS = {
    "nothing": (b"", 400, "empty_body"),
    "no tar": (b"GIF89a" + bytes(2000), 415, "bad_archive"),
    "cut": (tar(two_classes())[:1700], 422, "bad_archive"),
    "cut gzip": (tar(two_classes(), "w:gz")[:-400], 422, "bad_archive"),
    "cut zstd": (zstd(tar({f"cat/{i}.png": png(i, 40, "RGB") for i in range(60)}))[:-400], 422, "bad_archive"),
    "damaged zstd": (flipped(zstd(tar({f"cat/{i}.png": png(i, 40, "RGB") for i in range(60)})), -2), 422, "bad_archive"),
    "zstd bomb": (zstd(tar({"cat/a.png": png(1), "cat/b.png": bytes(150 << 20)})), 422, "bad_archive"),
    "bomb": (gzip.compress(tar({"cat/a.png": png(1), "cat/b.png": bytes(150 << 20)})), 422,
             "bad_archive"),
    "no files": (tar({}), 422, "no_valid_image"),
    "not an image": (tar({"cat/a.png": b"hello", "dog/b.png": b"hello"}), 422, "no_valid_image"),
    "truncated image": (tar({"cat/a.png": png(1)[:-20], "cat/b.jpg": jpeg(1)[:-20]}), 422, "no_valid_image"),
    "unknown format": (tar({"cat/a.gif": b"GIF89a" + bytes(50)}), 422, "no_valid_image"),
    "empty file": (tar({"cat/a.png": b""}), 422, "no_valid_image"),
    "empty class": (tar({"dog": None, "cat/a.png": png(1)}), 422, "empty_class"),
    "class of rubbish": (tar({"dog/a.png": b"text", "cat/a.png": png(1)}), 422, "empty_class"),
    "backslash": (tar({"a\\b/a.png": png(1)}), 422, "bad_label"),
    "control character": (tar({"a\nb/a.png": png(1)}), 422, "bad_label"),
    "space at the end": (tar({"cat /a.png": png(1)}), 422, "bad_label"),
    "long": (tar({"c" * 65 + "/a.png": png(1)}), 422, "bad_label"),
    "only outside": (tar({"/cat/a.png": png(1), "../cat/b.png": png(2)}), 422, "no_valid_image"),
}


@pytest.mark.parametrize("case", TAR_REFUSALS)
def test_bad_tar_changes_nothing(api, daemon, case):
    body, status, code = TAR_REFUSALS[case]
    assert_refused(api, daemon, api.put(BATCHES + "/bad", data=body), status, code)


def test_png_header_that_claims_too_much(api, daemon):
    bomb = bytearray(png(1))
    bomb[16:24] = struct.pack(">II", 100000, 100000)
    reply = api.put(BATCHES + "/bad", data=tar({"cat/a.png": bytes(bomb)}))
    assert_refused(api, daemon, reply, 422, "no_valid_image")
    assert "image_too_large" in reply.json()["detail"]


IMAGE_REFUSALS = {
    "no label": (png(1), {}, 400, "no_label", "label=cat"),
    "no label, a jpeg": (jpeg(1), {"split": "test"}, 400, "no_label", "label=cat"),
    "empty label": (png(1), {"label": ""}, 422, "bad_label", "class name"),
    "bad label": (png(1), {"label": "a/b"}, 422, "bad_label", "class name"),
    "long label": (png(1), {"label": "c" * 65}, 422, "bad_label", "class name"),
    "label not in UTF-8": (png(1), {"label": b"\xff"}, 422, "bad_label", "class name"),
    "cut png": (png(1)[:-20], {"label": "cat"}, 422, "no_valid_image", "damaged_image"),
    "cut jpeg": (jpeg(1)[:-20], {"label": "cat"}, 422, "no_valid_image", "damaged_image"),
    "over max-image-bytes": (png(1) + bytes(17 << 20), {"label": "cat"}, 422, "no_valid_image", "file_too_large"),
    "classes": (png(1), {"label": "cat", "classes": "0"}, 400, "bad_query", "classes and names"),
    "a tar": (tar(two_classes()), {"label": "cat"}, 400, "bad_query", "goes with one image"),
    "a tar by gzip": (tar(two_classes(), "w:gz"), {"label": "cat"}, 400, "bad_query", "goes with one image"),
    "an image said to be tar": (png(1), {"label": "cat", "format": "tar"}, 400, "bad_query", "goes with one image"),
    "a CIFAR file": (bytes(3073), {"label": "cat"}, 400, "bad_query", "goes with one image"),
}


@pytest.mark.parametrize("case", IMAGE_REFUSALS)
def test_bad_image_changes_nothing(api, daemon, case):
    body, query, status, code, words = IMAGE_REFUSALS[case]
    for reply in (api.put(BATCHES + "/bad", params=query, data=body), api.post(BATCHES, params=query, data=body)):
        assert_refused(api, daemon, reply, status, code)
        assert words in reply.json()["detail"]


def test_content_type_of_an_image(api, daemon):
    """What is sent as an image is refused as one, whatever it is."""
    def put(**query):
        return api.put(BATCHES + "/bad", params=query, data=tar(two_classes()), headers={"Content-Type": "image/png"})
    assert_refused(api, daemon, put(), 400, "no_label")
    refused = put(label="cat")
    assert_refused(api, daemon, refused, 422, "no_valid_image")
    assert "unknown_format" in refused.json()["detail"]
    assert put(format="tar").status_code == 201


def test_label_of_a_form_is_a_part(api, daemon):
    reply = api.post(BATCHES, params={"label": "cat"}, files=[("label", (None, "cat")), ("image", ("a.png", png(1)))])
    assert_refused(api, daemon, reply, 400, "bad_query")


MULTIPART_REFUSALS = {
    "no label": ([("image", ("a.png", png(1)))], 422, "no_valid_image"),
    "label alone": ([("label", (None, "cat"))], 422, "empty_class"),
    "bad label": ([("label", (None, "a/b")), ("image", ("a.png", png(1)))], 422, "bad_label"),
    "empty label": ([("label", (None, "")), ("image", ("a.png", png(1)))], 422, "bad_label"),
    "not an image": ([("label", (None, "cat")), ("image", ("a.png", b"text"))], 422, "no_valid_image"),
    "unknown part": ([("lable", (None, "cat")), ("image", ("a.png", png(1)))], 422, "unknown_part"),
    "images alone": ([("images", ("i", idx()[0]))], 422, "missing_part"),
    "idx and more": ([*idx_files(*idx()).items(), ("label", (None, "cat")), ("image", ("a.png", png(1)))],
                     422, "missing_part"),
    "no idx": ([("images", ("i", b"text")), ("labels", ("l", idx()[1]))], 422, "bad_idx"),
    "idx cut": ([("images", ("i", idx()[0][:-1])), ("labels", ("l", idx()[1]))], 422, "bad_idx"),
    "idx longer": ([("images", ("i", idx()[0])), ("labels", ("l", idx()[1] + b"x"))], 422, "bad_idx"),
    "idx of two counts": ([("images", ("i", idx(12)[0])), ("labels", ("l", idx(11)[1]))],
                          422, "bad_idx"),
    "idx gzip cut": ([("images", ("i", gzip.compress(idx()[0])[:-9])), ("labels", ("l", idx()[1]))],
                     422, "bad_idx"),
}


@pytest.mark.parametrize("case", MULTIPART_REFUSALS)
def test_bad_multipart_changes_nothing(api, daemon, case):
    parts, status, code = MULTIPART_REFUSALS[case]
    assert_refused(api, daemon, api.post(BATCHES, files=parts), status, code)


def test_multipart_without_its_end(api, daemon):
    reply = api.post(BATCHES, data=b'--X\r\nContent-Disposition: form-data; name="label"\r\n\r\ncat',
                     headers={"Content-Type": "multipart/form-data; boundary=X"})
    assert_refused(api, daemon, reply, 400, "bad_multipart")


@pytest.mark.parametrize("query, status, code", [
    ({"split": "both"}, 400, "bad_query"),
    ({"holdout": "1"}, 400, "bad_query"),
    ({"holdout": "nan"}, 400, "bad_query"),
    ({"holdout": "0.1x"}, 400, "bad_query"),
    ({"holdout": "0.1", "split": "test"}, 400, "bad_query"),
    ({"classes": "0,zero"}, 400, "bad_query"),
    ({"classes": "0,0"}, 400, "bad_query"),
    ({"classes": "0,1", "names": "only-one"}, 400, "bad_query"),
    ({"classes": "0,1", "names": "a,b/c"}, 422, "bad_label"),
    ({"classes": "0,9"}, 422, "empty_class"),
    ({"name": "a/b"}, 400, "bad_name"),
])
def test_bad_query_changes_nothing(api, daemon, query, status, code):
    assert_refused(api, daemon, api.post(BATCHES, params=query, files=idx_files(*idx())), status, code)


@pytest.mark.parametrize("name", ["a%20b", "a~b", "%C3%A9", "x" * 101])
def test_bad_name(api, daemon, name):
    assert_refused(api, daemon, api.put(BATCHES + "/" + name, data=tar(two_classes())), 400, "bad_name")


# ---- reading ----

def test_unknown_batch(api):
    assert_problem(api.get(BATCHES + "/nothing"), 404, "batch_not_found")


def test_list_pages_newest_first(api):
    for i in range(5):
        assert api.put(f"{BATCHES}/b{i}", data=tar(two_classes(1, 10 * i))).status_code == 201
    seen, token = [], None
    while True:
        page = api.get(BATCHES, params={"limit": 2, **({"page_token": token} if token else {})}).json()
        seen.append([b["name"] for b in page["batches"]])
        token = page["next_page_token"]
        if not token:
            break
    assert seen == [["b4", "b3"], ["b2", "b1"], ["b0"]]
    assert api.get(BATCHES, params={"limit": 5}).json()["next_page_token"] is None
    for limit in ("0", "1001", "two", "-1"):
        assert_problem(api.get(BATCHES, params={"limit": limit}), 400, "bad_query")
    assert_problem(api.get(BATCHES, params={"page_token": "b7"}), 400, "bad_page_token")
