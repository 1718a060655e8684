"""A newcomer's tour: a daemon learns the ten classes of Fashion-MNIST in five steps of two, without keeping old images, and
is asked to classify. `--ablation` runs the same steps eight times and shows what each part of the method is worth."""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import fashion
from client import Client, Daemon, Failure

# The options of every job, the defaults but for the epochs; the first also fixes the network's depth. README.md says how they do.
STEPS = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
PER_CLASS = 2000
OPTIONS = {"epochs": 5, "seed": 1}
FIRST = {"depth": 8}
CLASSIFIERS = {"head": {"classifier": "head"}, "prototypes": {"classifier": "prototypes", "experts": 0},
               "discriminant": {"classifier": "discriminant", "experts": 0}, "with experts": {"classifier": "discriminant"}}
METHODS = ("finetune", "m2kd")
CELLS = [(method, classifier) for method in METHODS for classifier in CLASSIFIERS]


def percent(share):
    return "   –  " if share is None else f"{100 * share:5.1f} "


def kilobytes(count):
    return f"{count / 1000:,.1f} kB"


def names(classes):
    return ",".join(fashion.NAMES[c] for c in classes)


def upload(client, files, name, **query):
    images, labels = files
    query = "&".join(f"{key}={value}" for key, value in {"name": name, **query}.items())
    return client.curl("-F", f"images=@{images}", "-F", f"labels=@{labels}", f"batches?{query}")


def learn_all(client, files, options):
    """Uploads the test images, then uploads and learns step after step."""
    test = upload(client, fashion.paths("t10k"), "test", split="test", names=",".join(fashion.NAMES))
    if client.show:
        print(f"  {test['test_images']:,} test images: they never train, and are kept to measure with\n")
    for step, classes in enumerate(STEPS, 1):
        if client.show:
            print(f"Step {step}: {', '.join(fashion.NAMES[c] for c in classes)}")
        batch = upload(client, files, f"step-{step}", classes=",".join(map(str, classes)), names=names(classes))
        started = time.monotonic()
        client.learn(batch["name"], {**options, **(FIRST if step == 1 else {})}, f"step {step} of {len(STEPS)}")
        if client.show:
            history, after = client.get("history"), client.get(f"batches/step-{step}")
            print(f"  {batch['train_images']:,} images learned in {time.monotonic() - started:.0f} s; "
                  f"accuracy over all classes so far {percent(history['last']).strip()} %; "
                  f"batch {after['state']}, its images are deleted\n")


def show_history(history):
    count = len(history["versions"])
    print("Accuracy (%) on the test images of each step (columns) after each step (rows)")
    print("             " + "".join(f"  step {i}" for i in range(1, count + 1)) + "     all")
    for t, row in enumerate(history["accuracy_matrix"]):
        cells = "".join(f"  {percent(a)}" for a in row)
        print(f"after step {t + 1} {cells}{'        ' * (count - t - 1)}  {percent(history['accuracy'][t])}")
    print(f"\nAverage incremental accuracy {percent(history['average_incremental']).strip()} %, "
          f"last {percent(history['last']).strip()} %, "
          f"forgetting {percent(history['forgetting_mean']).strip()} points\n")


def show_store(client):
    print("What is kept of the earlier steps: one pruned snapshot each, the teachers of the next")
    for s in sorted(client.get("snapshots")["snapshots"], key=lambda s: s["version"]):
        print(f"  snapshot {s['version']}: {kilobytes(s['bytes']):>9} of {kilobytes(s['dense_bytes'])} dense "
              f"({100 * s['share']:.1f} %), accuracy lost {100 * s['accuracy_lost']:+.1f} points")
    batches = client.get("batches")["batches"]
    test_bytes = sum(b["test_bytes"] for b in batches)
    train = list((client.daemon.data_dir / "batches").glob("*.train"))
    print(f"  training images: {len(train)} files; test images: {kilobytes(test_bytes)}\n")


def show_answers(client, folder):
    print("Now ask it: the first test image of each class as a PNG file, by curl")
    images, labels, height, width = fashion.load("t10k")
    right = 0
    for truth, name in enumerate(fashion.NAMES):
        path = folder / f"{name}.png"
        path.write_bytes(fashion.png(images[labels.index(truth)], height, width))
        answers = client.curl("--data-binary", f"@{path}", "predict?top=3")["predictions"]
        best = answers[0]["class"]
        right += best == name
        print("    " + ", ".join(f"{a['class']} {100 * a['score']:.1f} %" for a in answers)
              + ("; right" if best == name else f"; wrong, it is a {name}"))
    print(f"  {right} of {len(fashion.NAMES)} right\n")


def demo(args, folder, files, options):
    print("Ten classes in five steps of two; the images of a step are deleted once it is learned.\n")
    with Daemon(args.daemon, folder / "data", args.port) as daemon:
        print("The daemon\n  $ " + " ".join(daemon.command))
        print(f"  listens; its page is at {daemon.url}/\n")
        client = Client(daemon, show=True)
        learn_all(client, files, options)
        show_history(client.get("history"))
        show_store(client)
        show_answers(client, folder)
    print("To keep a daemon of your own:")
    print(f"  $ {args.daemon} --data-dir $HOME/accreted --port 8080    # then open http://127.0.0.1:8080/")
    print("or, as a service of the machine:")
    print("  $ sudo make install && sudo systemctl daemon-reload && sudo systemctl enable --now accreted")


def ablation(args, folder, files, options):
    print(f"{{{', '.join(METHODS)}}} x {{{', '.join(CLASSIFIERS)}}}: the same {args.per_class:,} images a class, "
          f"{options['epochs']} epochs, seed {options['seed']}; a daemon each.\n")
    scores = {}
    for method, classifier in CELLS:
        print(f"{method} + {classifier}")
        with Daemon(args.daemon, folder / f"{method}-{classifier.replace(' ', '-')}", args.port) as daemon:
            client = Client(daemon, show=False)
            learn_all(client, files, {**options, "method": method, **CLASSIFIERS[classifier], "gate": None})
            history = client.get("history")
        scores[method, classifier] = history["average_incremental"], history["last"]
        print(f"  average incremental {percent(history['average_incremental']).strip()} %, "
              f"last {percent(history['last']).strip()} %, "
              f"forgetting {percent(history['forgetting_mean']).strip()} points\n")
    print("Average incremental / last accuracy (%)\n" + " " * 13 + "".join(f"{c:<16}" for c in CLASSIFIERS).rstrip())
    for method in METHODS:
        cells = [" / ".join(percent(s).strip() for s in scores[method, c]) for c in CLASSIFIERS]
        print(f"{method:<13}" + "".join(f"{cell:<16}" for cell in cells).rstrip())
    best = scores[CELLS[-1]][0]
    print(f"\nAverage incremental accuracy of {' + '.join(CELLS[-1])} above")
    for cell in CELLS[:-1]:
        print(f"  {' + '.join(cell):<24} {100 * (best - scores[cell][0]):+5.1f} points")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daemon", default="build/release/accreted", help="the binary")
    parser.add_argument("--ablation", action="store_true", help="all eight cells instead of the tour")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="training images of a class (%(default)s)")
    parser.add_argument("--epochs", type=int, default=OPTIONS["epochs"], help="of each step (%(default)s)")
    parser.add_argument("--seed", type=int, default=OPTIONS["seed"], help="(%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="to listen on; 0 (default): any free one")
    parser.add_argument("--keep", action="store_true", help="leave the data directory behind")
    return parser.parse_args()


def main():
    args = arguments()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="accreted-demo-"))
    started = time.monotonic()
    try:
        files = fashion.paths("train")
        if args.per_class < 6000:
            files = fashion.write_slice("train", args.per_class, folder)
        options = {**OPTIONS, "epochs": args.epochs, "seed": args.seed}
        (ablation if args.ablation else demo)(args, folder, files, options)
        print(f"\nTook {time.monotonic() - started:.0f} s.")
        return 0
    except (Failure, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        if args.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
