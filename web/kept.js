// kept.js - what is kept and what the disk has left, in plain words and bytes.

import { el } from "./dom.js";
import { bytes, count } from "./format.js";

// [member of schema/storage.json, one, many, what it is for]
const KINDS = [
    ["test_images", "test image", "test images", "They never train. The accuracy of old classes is measured on them."],
    ["training_images", "training image", "training images", "Not learned yet; deleted once a model that learned them serves."],
    ["snapshots", "snapshot", "snapshots", "Pruned copies of the versions, experts and teachers of later steps."],
    ["models", "model", "models", "Whole models, to serve and to roll back to."],
    ["prototypes", "prototype", "prototypes", "The mean feature vector of each class, inside the model."],
];

const line = (name, size, why) => el("div", {}, el("dt", {}, name), el("dd", {}, size), el("dd", { class: "note" }, why));

function diskLine({ free_bytes, total_bytes, reserve_bytes }) {
    const low = free_bytes < reserve_bytes;
    const node = line("Free on the disk", `${bytes(free_bytes)} of ${bytes(total_bytes)}`,
        low ? `Below the reserve of ${bytes(reserve_bytes)}: uploads and jobs are refused until space is freed.`
            : `Uploads and jobs are refused below ${bytes(reserve_bytes)}.`);
    node.classList.toggle("bad-text", low);
    return node;
}

// The same without words and disk, for a glance.
export function keptFigures(storage) {
    return el("dl", { class: "kept" }, KINDS.map(([key, one, many]) => {
        const { count: n, bytes: size } = storage[key];
        return el("div", {}, el("dt", {}, n === 0 ? `No ${many}` : `${count(n)} ${n === 1 ? one : many}`),
            el("dd", {}, n === 0 ? "" : bytes(size)));
    }), storage.disk ? el("div", {}, el("dt", {}, "Free on the disk"), el("dd", {}, bytes(storage.disk.free_bytes))) : null);
}

export function keptList(storage) {
    return el("dl", { class: "kept" },
        KINDS.map(([key, one, many, why]) => {
            const { count: n, bytes: size } = storage[key];
            return line(n === 0 ? `No ${many}` : `${count(n)} ${n === 1 ? one : many}`, n === 0 ? "" : bytes(size), why);
        }),
        line("Database", bytes(storage.database_bytes), "Jobs, curves, accuracies and names."),
        storage.disk ? diskLine(storage.disk) : null);
}
