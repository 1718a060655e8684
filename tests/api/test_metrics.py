"""/metrics: what Prometheus' own tool says of it and of what is shipped beside it; and whether the figures are true."""

import json
import re
import shutil
import subprocess

import pytest

import images
from conftest import ROOT, Client, wait_for

TINY = {"depth": 8, "epochs": 2, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}}
SAMPLE = re.compile(r'([a-z_]+)(?:{(.*)})? (\S+)')
NAMES = """http_requests_total http_request_duration_seconds inference_requests_total inference_duration_seconds
inference_queue_duration_seconds inference_pending_requests jobs jobs_total job_duration_seconds job_progress_ratio job_eta_seconds
train_samples_total train_loss model_accuracy_ratio model_average_incremental_accuracy_ratio model_forgetting_ratio model_classes
model_version store_bytes store_free_bytes checkpoint_age_seconds recoveries_total corruptions_detected_total build_info""".split()
PROCESS = "cpu_seconds_total resident_memory_bytes open_fds max_fds start_time_seconds".split()


def promtool(*arguments, text=None):
    tool = shutil.which("promtool") or ROOT / "build/tools/usr/bin/promtool"  # tests/install.sh check fetches it
    done = subprocess.run([tool, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def read(text):
    """(families with their types, samples by name and label text)"""
    types, samples = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, f"{name} stands there twice"
            types[name] = kind
        elif not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert (name, labels) not in samples, line
            samples[name, labels] = float(value)
    return types, samples


def scrape(api):
    reply = api.get("/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(reply.text)


@pytest.fixture(scope="module")
def learned(module_daemon):
    """Two steps, and what was scraped while the second one ran and after it."""
    api = Client(module_daemon)
    api.before = api.get("/metrics").text
    api.upload("one", images.tar(["red", "green"], range(24)), holdout=0.25)
    api.learn("one", **TINY)
    api.upload("two", images.tar(["blue", "yellow"], range(24)), holdout=0.25)
    job = api.train("two", epochs=600, batch=32)["id"]
    wait_for(lambda: (api.daemon.data_dir / f"checkpoints/{job}").exists())
    wait_for(lambda: "accreted_job_eta_seconds" in (text := api.get("/metrics").text) and setattr(api, "during", text) is None)
    api.post(f"/api/v1/jobs/{job}/cancel")
    api.wait(job)
    api.learn("two", **{k: v for k, v in TINY.items() if k != "depth"})
    api.predict(images.png("red", 1))
    api.post("/api/v1/predict", data=b"no image")
    api.after = api.get("/metrics").text
    return api


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_promtool_finds_nothing_to_complain_of(learned, when):
    assert promtool("check", "metrics", text=getattr(learned, when)) == (0, "")
    bad = getattr(learned, when).replace("accreted_jobs_total", "accreted_jobs_ms")
    assert promtool("check", "metrics", text=bad) != (0, "")


def test_every_name(learned):
    types = {**read(learned.during)[0], **read(learned.after)[0]}
    assert {"accreted_" + name for name in NAMES} | {"process_" + name for name in PROCESS} <= set(types)


def test_figures_are_true(learned):
    _, found = read(learned.after)
    history = learned.get("/api/v1/history").json()
    models = learned.get("/api/v1/models").json()["models"]

    def value(name, labels=None):
        return found["accreted_" + name, labels]

    assert (value("model_version"), value("model_classes")) == (2, 4)
    for i, accuracy in enumerate(history["accuracy_matrix"][-1]):
        assert value("model_accuracy_ratio", f'task="{i + 1}"') == pytest.approx(accuracy)
    assert value("model_forgetting_ratio") == pytest.approx(history["forgetting_mean"])
    assert value("model_average_incremental_accuracy_ratio") == pytest.approx(history["average_incremental"])
    assert [value("jobs_total", f'outcome="{o}"') for o in ("succeeded", "failed", "cancelled")] == [2, 0, 1]
    assert [value("jobs", f'state="{s}"') for s in ("queued", "running", "succeeded")] == [0, 0, 2]
    assert value("store_bytes", 'kind="models"') == sum(m["model_bytes"] for m in models)
    assert value("store_bytes", 'kind="training_images"') == 0
    assert value("store_bytes", 'kind="test_images"') > 0
    assert value("inference_requests_total", 'model="accreted",outcome="success"') == 1
    route = 'method="POST",route="/api/v1/predict"'
    codes = {labels[-5:]: v for (name, labels), v in found.items()
             if name == "accreted_http_requests_total" and labels.startswith(route)}
    assert codes.pop('"200"') == 1 and sum(codes.values()) == 1
    assert value("http_request_duration_seconds_count", route) == 2
    assert 0 < value("http_request_duration_seconds_sum", route) < 60
    assert value("job_duration_seconds_count") == 3
    epochs = sum(len(learned.get(f"/api/v1/jobs/{job}/metrics").json()["epochs"])
                 * learned.job(job)["train_images"] for job in (1, 2, 3))
    assert value("train_samples_total") == epochs


def test_a_running_job(learned):
    _, found = read(learned.during)
    assert 0 <= found["accreted_job_progress_ratio", None] < 1
    assert found["accreted_job_eta_seconds", None] >= 0
    assert found["accreted_jobs", 'state="running"'] == 1
    assert ("accreted_job_progress_ratio", None) not in read(learned.after)[1]


def test_histograms_grow(learned):
    _, found = read(learned.after)
    rows = {}
    for (name, labels), value in found.items():
        if name == "accreted_http_request_duration_seconds_bucket":
            series, _, bound = labels.rpartition(",le=")
            rows.setdefault(series, []).append((float(bound.strip('"')), value))
    assert rows
    for series, buckets in rows.items():
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), series
        assert [v for _, v in buckets] == sorted(v for _, v in buckets), series
        assert buckets[-1][1] == found["accreted_http_request_duration_seconds_count", series]


def test_no_label_is_the_clients(api):
    for path in ("/nope-1", "/nope-2", "/api/v1/jobs/77", "/api/v1/jobs/78", "/api/v1/batches/abc"):
        api.get(path)
    text = api.get("/metrics").text
    for word in ("nope", "77", "abc"):
        assert f"/{word}" not in text
    _, found = read(text)
    assert found["accreted_http_requests_total", 'method="none",route="none",code="404"'] == 2
    assert found["accreted_http_requests_total", 'method="GET",route="/api/v1/jobs/{id}",code="404"'] == 2


def test_needs_a_token_once_there_is_one(api):
    token = api.post("/api/v1/tokens", json={"scope": "admin"}).json()["token"]
    api.refused(api.get("/metrics"), 401, "unauthorized")
    key = {"Authorization": "Bearer " + token}
    reply = api.get("/metrics", headers={"Authorization": "Bearer " + api.post(
        "/api/v1/tokens", json={"scope": "predict"}, headers=key).json()["token"]})
    assert read(reply.text)[1]["accreted_auth_refused_total", 'code="401"'] == 1


# ---- what is shipped beside it ----

def used(text):
    return set(re.findall(r"\b((?:accreted|process)_[a-z_]+)\b", text))


def exported(learned):
    return {name for text in (learned.during, learned.after) for name, _ in read(text)[1]}


def test_alert_rules(learned, tmp_path):
    path = ROOT / "systemd/alerts.yml"
    code, said = promtool("check", "rules", str(path))
    assert code == 0 and "SUCCESS" in said, said
    (tmp_path / "bad.yml").write_text(path.read_text().replace("[1h]) > 0", "[1h]) > > 0"))
    assert promtool("check", "rules", str(tmp_path / "bad.yml"))[0] != 0
    expressions = "\n".join(re.findall(r"^ +expr: (.*)$", path.read_text(), re.M))
    assert len(used(expressions)) >= 6
    assert used(expressions) <= exported(learned)


def test_grafana_dashboard(learned):
    dashboard = json.loads((ROOT / "systemd/grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in dashboard["templating"]["list"]]
    assert len(used("\n".join(expressions))) >= 20
    assert used("\n".join(expressions)) <= exported(learned)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
