#!/usr/bin/python3
"""Makes RESULTS.md from the files in tests/bench/results. With --check: says whether it is up to date, and writes nothing."""

import argparse
import json
import math
import pathlib
import sys

import protocol

HERE = pathlib.Path(__file__).resolve().parent
HEAD = """# What the method was measured to be worth

Written by `make bench-tables` from the files under `tests/bench/results`, one a run, each with all its options, its accuracy
matrix and times; edit nothing here. How to make the runs again stands in [README.md](README.md). Accuracies are in percent, on
the test images of all classes seen (in `validation` tables on training images held out), a class's step unknown to the model. Average incremental accuracy counts the first step.
Values over several seeds are the mean ± its standard error; differences are taken seed by seed, in points.
"""
MEASURES = (("average incremental", "average_incremental"), ("last", "last"), ("forgetting", "forgetting"))


def load(results, profile, validate):
    """Results by (method, seed)."""
    found = {}
    for path in sorted((results / profile).glob("*.json")):
        one = json.loads(path.read_text())
        if (one["measured_on"] == "holdout") == validate:
            found[one["method"], one["seed"]] = one
    return found


def mean_and_error(values):
    """The mean, and its standard error: None for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def number(values, sign=""):
    """In percent; empty where a single step leaves nothing to measure, as of forgetting."""
    if None in values:
        return ""
    mean, error = mean_and_error([100 * v for v in values])
    return f"{mean:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")


def stored(results):
    """Bytes of all snapshots of a run, as some hold only what others do not: the mean over all seeds, and the share of dense; and
    the accuracy the worst of them loses."""
    share = [sum(r["snapshot_bytes"]) / sum(r["snapshot_dense_bytes"]) for r in results]
    lost = [max(x for x in r["snapshot_accuracy_lost"] if x is not None) for r in results]
    return [f"{sum(sum(r['snapshot_bytes']) for r in results) / len(results) / 1000:.1f} kB, {100 * sum(share) / len(share):.1f} %",
            f"{sum(100 * x for x in lost) / len(lost):+.1f}"]


def row(method, results):
    if not results:
        return [method, "not made", *[""] * 6]
    seconds = sum(r["seconds"] for r in results) / len(results)
    return [method, str(len(results)), *(number([r[key] for r in results]) for _, key in MEASURES), *stored(results),
            f"{seconds:.0f}"]


def markdown(rows):
    header, *rest = rows
    lines = [header, ["---"] * len(header), *rest]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def differences(found, pairs):
    """One row minus another, over the seeds that both have."""
    lines = []
    for row_of, control in pairs:
        seeds = sorted(s for m, s in found if m == row_of and (control, s) in found)
        if not seeds:
            continue
        texts = []
        for title, key in MEASURES:
            texts.append(f"{title} {number([found[row_of, s][key] - found[control, s][key] for s in seeds], '+')}")
        lines.append(f"- {row_of} minus {control}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}: {', '.join(texts)}")
    return "\n".join(lines) + ("\n" if lines else "")


def conditions(profile, found):
    any_of = next(iter(found.values()), None)
    if not any_of:
        return ""
    p, epochs = protocol.PROFILES[profile], sorted({r["epochs"] for r in found.values()})
    machines = sorted({f"{r['machine']}, {r['threads']} threads, {r['kernel']} kernel" for r in found.values()})
    return (f"{p.classes} classes, {p.per_step} a step, class order A, depth {p.network['depth']}, "
            f"{', '.join(map(str, epochs))} epochs a step, no exemplars unless a row says so. {'; '.join(machines)}; "
            f"times are of training alone, on machines that did other things too.\n\n")


def section(results, profile, validate=False):
    found = load(results, profile, validate)
    p = protocol.PROFILES[profile]
    rows = [["method", "seeds", *(title for title, _ in MEASURES), "all snapshots, of dense", "one loses at most", "seconds"]]
    for method in p.rows:
        rows.append(row(method, [r for (m, _), r in sorted(found.items()) if m == method]))
    text = f"## {p.title} (`{profile}`{', validation' if validate else ''})\n\n" + conditions(profile, found) + markdown(rows)
    gain = differences(found, p.compare)
    text += f"\n{gain}" if gain else ""
    text += f"\nPublished by others: {p.reference}.\n" if p.reference else ""
    return text


def peer_section(results):
    """Runs of peer_incremental.py, each beside ours of the same row and seed."""
    text = "## The row `finetune` in PyTorch\n\n"
    rows = [["profile, seed", "program", "average incremental", "last", "forgetting", "seconds", "threads"]]
    for path in sorted((results / "peer").glob("*.json")):
        peer = json.loads(path.read_text())
        ours = load(results, peer["profile"], False).get((peer["method"], peer["seed"]))
        for one in (peer, ours):
            name = f"{peer['profile']}, {peer['seed']}"
            if one:
                program = one["program"] if one is peer else f"accreted {one['program']}"
                rows.append([name, program, *(number([one[key]]) for _, key in MEASURES), f"{one['seconds']:.0f}",
                             str(one["threads"])])
            else:
                rows.append([name, "accreted", "not made", *[""] * 4])
    return text + (markdown(rows) if len(rows) > 1 else "Not made.\n")


def document(results):
    sections = []
    for profile in protocol.PROFILES:
        for validate in (False, True):
            # A profile is told of even where nothing was made of it; other than on the images it is meant for, if something was.
            if validate == protocol.PROFILES[profile].tuning or load(results, profile, validate):
                sections.append(section(results, profile, validate))
    return "\n".join([HEAD, *sections, peer_section(results)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "RESULTS.md")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = document(args.results)
    if not args.check:
        args.output.write_text(text)
        return 0
    if not args.output.exists() or args.output.read_text() != text:
        print(f"{args.output} is not what the results give: make bench-tables", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
