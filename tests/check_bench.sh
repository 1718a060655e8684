#!/bin/bash
# The method's benchmark on a handful of made-up images: it goes on after it was killed, to the result of a run that was not,
# refuses what does not fit, and RESULTS.md is what the results give. Argument: the build directory.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "$1"
    cat "$folder"/log* 2>/dev/null || true
    exit 1
}

first_child() { # PID
    cut -d ' ' -f 1 "/proc/$1/task/$1/children"
}

# Images that tell their class: a colour of each, and noise.
/usr/bin/python3 - "$folder" <<'END'
import pathlib, random, sys
from PIL import Image
folder = pathlib.Path(sys.argv[1])
rng = random.Random(1)
def planes(label):
    return [bytes(rng.randrange(60) + 190 * (label >> bit & 1) for _ in range(1024)) for bit in range(3)]
for split, count in (("train", 12), ("test", 4)):
    (folder / f"{split}.bin").write_bytes(b"".join(bytes((0, c)) + b"".join(planes(c)) for _ in range(count) for c in range(100)))
for split, count in (("train", 3), ("val", 1)):
    for c in range(100):
        (folder / "photos" / split / f"n{c:03}").mkdir(parents=True)
        for i in range(count):
            image = Image.merge("RGB", [Image.frombytes("L", (32, 32), plane) for plane in planes(c)])
            image.save(folder / "photos" / split / f"n{c:03}" / f"{i}.png")
END

# The recipe for ILSVRC-small, as it is but for four classes and images of 32x32.
cat >"$folder/small.py" <<'END'
import dataclasses, sys
sys.path.insert(0, "tests/bench")
import incremental, protocol
p = protocol.PROFILES["ilsvrc-small"]
network = {**p.network, "input": {"channels": 3, "height": 32, "width": 32}}
protocol.PROFILES["ilsvrc-small"] = dataclasses.replace(p, classes=4, per_step=2, network=network)
sys.exit(incremental.main())
END

program=tests/bench/incremental.py
bench() { # RESULTS PROFILE ARGUMENTS...
    local results=$1 profile=$2
    shift 2
    /usr/bin/python3 "$program" "$profile" --data "$folder" --daemon "$build/accreted" \
        --work "$folder/work-$results" --results "$folder/$results" "$@"
}

# One run in one go; and one that is killed twice, daemon and all.
bench whole short --only m2kd --seeds 1 --epochs 12 --keep >"$folder/log1" 2>&1 || fail "a run fails"
grep -qE 'step 4 of 4 \[#+\] 100 %.*; all 100 %' "$folder/log1" || fail "no progress bar"
grep -qE '^\| m2kd \| 1 \| [0-9.]+ \| [0-9.]+ \| -?[0-9.]+ \|' "$folder/log1" || fail "no table"
grep -qE '^\| finetune \| not made \|' "$folder/log1" || fail "a run that was not made must be listed"
for step in 2 3; do
    bench killed short --only m2kd --seeds 1 --epochs 12 >"$folder/log2" 2>&1 &
    pid=$!
    until grep -q "step $step of 4" "$folder/log2"; do
        kill -0 $pid || fail "a run ended before it was killed"
        sleep 0.05
    done
    python=$(first_child $pid) daemon=$(first_child "$python")
    kill -9 "$python" "$daemon"
    wait $pid 2>/dev/null || true
    while kill -0 "$daemon" 2>/dev/null; do sleep 0.05; done
done
bench killed short --only m2kd --seeds 1 --epochs 12 >"$folder/log2" 2>&1 || fail "a run that was killed does not go on"
grep -q 'made already' "$folder/log2" && fail "it was made before it ended"
[ ! -e "$folder/work-killed/short-m2kd-s1" ] || fail "the daemon's data were left behind"
/usr/bin/python3 - "$folder" <<'END' || fail "going on gives another result"
import json, sys
whole, killed = (json.load(open(f"{sys.argv[1]}/{r}/short/short-m2kd-s1.json")) for r in ("whole", "killed"))
for key in ("accuracy_matrix", "average_incremental", "last", "forgetting", "snapshot_bytes", "options", "order", "exemplars"):
    assert whole[key] == killed[key], (key, whole[key], killed[key])
assert len(whole["accuracy_matrix"]) == 4 and whole["average_incremental"] > 0.3, whole
assert killed["restarts"] >= 1 and killed["seconds"] > 0, killed
END

# What was made is not made again; other options under the same name are refused.
bench whole short --only m2kd --seeds 1 --epochs 12 >"$folder/log3" 2>&1 || fail "a finished profile fails"
grep -q 'short-m2kd-s1: made already' "$folder/log3" || fail "it is made again"
if bench whole short --only m2kd --seeds 1 --epochs 13 >"$folder/log3" 2>&1; then fail "other options are taken for the same"; fi
rm "$folder/whole/short/short-m2kd-s1.json"
if bench whole short --only m2kd --seeds 1 --epochs 13 >"$folder/log3" 2>&1; then fail "another run's data are taken over"; fi

# Validation does without the test images; class folders; differences with their errors.
mv "$folder/test.bin" "$folder/kept"
bench more short --validate --only finetune --seeds 1 --epochs 1 >"$folder/log4" 2>&1 || fail "validation fails"
mv "$folder/kept" "$folder/test.bin"
bench more short-joint --seeds 1 --epochs 1 >"$folder/log6" 2>&1 || fail "a single step fails"
grep -qE '^\| joint \| 1 \| ([0-9.]+) \| \1 \|  \|' "$folder/log6" || fail "a single step has no row without forgetting"
program=$folder/small.py
bench more ilsvrc-small --data "$folder/photos" --only m2kd --epochs 1 >"$folder/log5" 2>&1 || fail "class folders fail"
/usr/bin/python3 - "$folder" <<'END' || fail "the tables are wrong"
import json, pathlib, sys
sys.path.insert(0, "tests/bench")
import tables
folder = pathlib.Path(sys.argv[1]) / "made"
(folder / "short").mkdir(parents=True)
one = json.loads((folder.parent / "killed/short/short-m2kd-s1.json").read_text())
for method, scores in (("m2kd", (0.50, 0.54)), ("lwf.mc", (0.40, 0.42))):
    for seed, score in enumerate(scores):
        made = {**one, "method": method, "seed": seed, "average_incremental": score}
        (folder / f"short/{method}-{seed}.json").write_text(json.dumps(made))
text = tables.section(folder, "short")
assert "| m2kd | 2 | 52.0 ± 2.0 |" in text and "| finetune | not made |" in text, text
assert "m2kd minus lwf.mc, 2 seeds: average incremental +11.0 ± 1.0," in text, text
END

/usr/bin/python3 tests/bench/tables.py --check
