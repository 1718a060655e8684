#!/usr/bin/python3
"""Class-incremental learning as the literature measures it, through the daemon's public API alone.

    incremental.py PROFILE --data FOLDER      short, short-joint, ablation, tuning, tuning-32, full, full-5, full-20, full-joint,
                                              ilsvrc-small

For every row and seed of the profile (protocol.py) a daemon gets the steps' images one after the other, and at the end
/api/v1/history says how it did; that goes into one JSON file under tests/bench/results, and tables.py makes RESULTS.md of
them. Interrupt it whenever you like (Ctrl-C, a power cut): called again it goes on in the epoch where it was, for the daemon does.
With --validate a tenth of the training images is held out and measured on, for tuning; the test images are then not touched.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import time
import urllib.error

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))
# pylint: disable=wrong-import-position
import protocol
import tables
from client import Client, Daemon, Failure
from datasets import SOURCES

HOLDOUT = 0.1


def clock(seconds):
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


class Total:
    """How much of all runs of this call is done, and when the rest may be."""

    def __init__(self, steps):
        self.steps = steps
        self.done = 0              # steps, those found done included
        self.learned = 0.0         # steps' worth of learning of this call
        self.started = time.monotonic()

    def text(self, share, since):
        """`share` of the current step is done, `since` of it when this call found it."""
        here = self.learned + share - since
        text = f"; all {100 * (self.done + share) / self.steps:.0f} %"
        if here > 0.25:
            left = (time.monotonic() - self.started) / here * (self.steps - self.done - share)
            text += f", {clock(left)} left"
        return text


class State:
    """What a run knows beyond the daemon's data directory: what it is, and the time spent."""

    def __init__(self, run, folder):
        self.path = folder / "run.json"
        self.description = run.description()
        self.seconds = 0.0
        self.since = time.monotonic()
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            if kept["run"] != self.description:
                raise Failure(f"{folder} holds a run with other options; remove it, or use another --work")
            self.seconds = kept["seconds"]

    def save(self):
        now = time.monotonic()
        self.seconds, self.since = self.seconds + now - self.since, now
        write(self.path, {"run": self.description, "seconds": self.seconds})


def write(path, value):
    """All of it or nothing, whenever it is interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def is_there(client, batch):
    try:
        client.get(f"batches/{batch}")
        return True
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False


def job_of(client, batch):
    """The newest job for a batch that was not called off, or None."""
    for job in client.list("jobs"):
        if job["batches"] == [batch] and job["state"] != "cancelled":
            return job
    return None


def learn_step(client, run, source, number, total, place):
    """Step `number` from where it stands to its end; its job."""
    batch, classes = f"step-{number}", run.steps[number - 1]
    job = job_of(client, batch)
    if not job:
        if not is_there(client, batch):
            source.upload(client, batch, "train", classes, HOLDOUT if run.validate else 0)
        # Every step counts here, however much it forgot.
        job = client.post_job(batch, {**run.options(number), "gate": None})
    since = job["progress"]
    job = client.wait(job, f"{place}, step {number} of {len(run.steps)}", lambda share: total.text(share, since))
    total.done += 1
    total.learned += 1 - since
    return job


def learn(run, args, source, total, place):
    """All steps of a run, from where its folder says it stands; the result."""
    folder = args.work / run.name
    folder.mkdir(parents=True, exist_ok=True)
    state = State(run, folder)
    (folder / "data" / "port").unlink(missing_ok=True)
    with Daemon(args.daemon, folder / "data", 0, run.protocol.daemon) as daemon:
        client = Client(daemon, show=False)
        try:
            if not run.validate and not is_there(client, "test"):
                source.upload(client, "test", "test", [c for step in run.steps for c in step])
            jobs = []
            for number in range(1, len(run.steps) + 1):
                jobs.append(learn_step(client, run, source, number, total, place))
                state.save()
        finally:
            state.save()
        return result(client, run, jobs, state.seconds)


def result(client, run, jobs, wall):
    history, snapshots = client.get("history"), sorted(client.list("snapshots"), key=lambda s: s["version"])
    epochs = [[e for e in client.get(f"jobs/{job['id']}/metrics")["epochs"] if e["seconds"] is not None] for job in jobs]
    options = jobs[-1]["options"]
    return {
        **run.description(),
        "exemplars": options.get("exemplars", {}).get("total", 0),
        "average_incremental": history["average_incremental"],
        "last": history["last"],
        "forgetting": history["forgetting_mean"],
        "backward_transfer": history["backward_transfer"],
        "accuracy": history["accuracy"],
        "accuracy_matrix": history["accuracy_matrix"],
        "snapshot_bytes": [s["bytes"] for s in snapshots],
        "snapshot_dense_bytes": [s["dense_bytes"] for s in snapshots],
        "snapshot_accuracy_lost": [s["accuracy_lost"] for s in snapshots],
        "seconds": round(sum(e["seconds"] for step in epochs for e in step), 1),
        "seconds_wall": round(wall, 1),
        "step_seconds": [round(sum(e["seconds"] for e in step), 1) for step in epochs],
        "train_images": [job["train_images"] for job in jobs],
        "options": [job["options"] for job in jobs],
        "kernel": jobs[-1]["kernel"],
        "threads": jobs[-1]["threads"],
        "restarts": sum(job["restarts"] for job in jobs),
        "reproducible": all(job["reproducible"] for job in jobs),
        "program": client.health()["version"],
        "machine": machine(),
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def machine():
    model = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    return f"{os.cpu_count()} x {model[0] if model else 'unknown'}"


def is_made(run, args):
    path = args.results / run.profile / f"{run.name}.json"
    if not path.exists():
        return False
    kept = json.loads(path.read_text())
    if any(kept[key] != value for key, value in run.description().items()):
        raise Failure(f"{path} is of a run with other options; remove it, or use another --results")
    return True


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=protocol.PROFILES)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the images (datasets.py)")
    parser.add_argument("--daemon", default="build/release/accreted", help="the binary (%(default)s)")
    parser.add_argument("--work", type=pathlib.Path, default="build/bench-method", help="of unfinished runs (%(default)s)")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="of finished ones")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows of the profile")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the profile's")
    parser.add_argument("--epochs", type=int, help="instead of the profile's")
    parser.add_argument("--validate", action="store_true", help="hold out a tenth of the training images, leave the test images")
    parser.add_argument("--keep", action="store_true", help="leave the daemon's data behind")
    return parser.parse_args()


def bench(args):
    runs = protocol.runs(args.profile, args.only, args.seeds, args.epochs, args.validate)
    source = SOURCES[protocol.PROFILES[args.profile].source](args.data)
    total = Total(sum(len(run.steps) for run in runs))
    print(f"{protocol.PROFILES[args.profile].title}: {len(runs)} runs")
    for i, run in enumerate(runs, 1):
        if is_made(run, args):
            print(f"{run.name}: made already")
            total.done += len(run.steps)
            continue
        made = learn(run, args, source, total, f"{i}/{len(runs)} {run.method}")
        write(args.results / run.profile / f"{run.name}.json", made)
        if not args.keep:
            shutil.rmtree(args.work / run.name)
        measures = ", ".join(f"{title} {tables.number([made[key]])}" for title, key in tables.MEASURES if made[key] is not None)
        print(f"{run.name}: {measures} (%), {made['seconds']:.0f} s of training", flush=True)
    print("\n" + tables.section(args.results, args.profile, runs[0].validate))


def main():
    # So that the daemon is stopped, in order, whoever ends this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench(arguments())
        return 0
    except (Failure, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
