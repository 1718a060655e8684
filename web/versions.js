// versions.js - what is done with one version: compare it with another, take it elsewhere.

import { gateWords } from "./activate.js";
import { el, swap } from "./dom.js";
import { openDialog } from "./dialog.js";
import { bytes, clock, duration, names, NONE, percent, plural, signed } from "./format.js";
import { PagedTable } from "./parts.js";
import { activeModel, state } from "./state.js";

const FORMATS = [["onnx", "ONNX, for inference elsewhere: input size, normalisation and labels are inside"],
    ["safetensors", "safetensors, all weights in PyTorch's layouts; another daemon can import it"]];

export function exportDialog(model) {
    openDialog(`Export version ${model.version}`, el("ul", { class: "plain" }, FORMATS.map(([format, words]) =>
        el("li", {}, el("a", { class: "button", href: `/api/v1/models/${model.version}/export?format=${format}`, download: "" }, format),
            el("span", { class: "note" }, ` ${words}`)))));
}

// ---- two versions side by side ----

const difference = (a, b) => (a === null || b === null || a === undefined || b === undefined ? NONE : signed(b - a));

// Accuracy on the classes of each step: of a version in the history of the one that serves, or of one the gate looked at.
function byStep(model) {
    const at = state.history.versions.indexOf(model.version);
    return at < 0 ? model.gate?.steps.map((step) => step.after) ?? null : state.history.accuracy_matrix[at];
}

function rows(a, b) {
    const one = byStep(a), two = byStep(b);
    const list = [{ what: "All classes it knows", a: a.serving_accuracy, b: b.serving_accuracy }];
    for (let i = 0; one && two && i < Math.max(one.length, two.length); i++)
        if (one[i] !== undefined || two[i] !== undefined)
            list.push({ what: `Classes of step ${i + 1}`, a: one[i], b: two[i] });
    return list;
}

function facts(a, b) {
    const snapshot = (m) => state.snapshots.find((s) => s.version === m.version);
    const size = (m) => (snapshot(m) ? bytes(snapshot(m).bytes) : NONE);
    const row = (name, value) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value(a)), el("td", {}, value(b)));
    return el("table", {}, el("thead", {}, el("tr", {}, el("td", {}), ...[a, b].map((m) =>
        el("th", { scope: "col" }, `Version ${m.version}${m.active ? ", serves" : ""}`)))),
    el("tbody", {}, row("Made", (m) => clock(m.created)), row("Builds on", (m) => (m.parent ? `version ${m.parent}` : "nothing")),
        row("In the place of", (m) => (m.refines ? `version ${m.refines}` : NONE)),
        row("Classes", (m) => m.classes), row("Trained for", (m) => duration(m.train_seconds)),
        row("Model", (m) => (m.model_bytes ? bytes(m.model_bytes) : "rebuilt from its snapshot")), row("Gate", (m) => gateWords(m.gate) ?? NONE), row("Snapshot", size)));
}

export function classChange(a, b) {
    const only = (m, other) => m.class_names.filter((name) => !other.class_names.includes(name));
    const gained = only(b, a), lost = only(a, b);
    if (!gained.length && !lost.length)
        return "Both know the same classes.";
    const say = (m, list) => (list.length ? `Only version ${m.version} knows ${names(list)}.` : "");
    return [say(b, gained), say(a, lost)].filter(Boolean).join(" ");
}

function pair(a, b) {
    const accuracy = new PagedTable({ label: "Accuracy of both versions", size: 12, columns: [
        { title: "Accuracy on", cell: (r) => r.what },
        { title: `Version ${a.version}`, kind: "number", cell: (r) => percent(r.a) },
        { title: `Version ${b.version}`, kind: "number", cell: (r) => percent(r.b) },
        { title: "Difference, points", kind: "number", cell: (r) => difference(r.a, r.b) }] });
    accuracy.update(rows(a, b));
    return [facts(a, b), el("p", {}, classChange(a, b)), accuracy.node,
        byStep(a) && byStep(b) ? null : el("p", { class: "note" },
            "By step only versions can be compared that the serving one was built on, or that the gate looked at.")];
}

// `first` against the one that serves, or against its parent; both can be chosen.
export function openComparison(first) {
    const active = activeModel();
    const other = first.active ? state.models.find((m) => m.version === first.refines)
        ?? state.models.find((m) => m.version === (first.parent ?? first.version)) : active;
    const area = el("div", {});
    const find = (select) => state.models.find((m) => m.version === Number(select.value));
    const choose = (label, model) => el("select", { "aria-label": label }, state.models.map((m) =>
        el("option", { value: m.version, selected: m.version === model.version },
            `Version ${m.version}, ${plural(m.classes, "class", "classes")}${m.active ? ", serves" : ""}`)));
    const older = other.version < first.version ? other : first, newer = older === first ? other : first;
    const a = choose("First version", older), b = choose("Second version", newer);
    const draw = () => swap(area, pair(find(a), find(b)));
    a.addEventListener("change", draw);
    b.addEventListener("change", draw);
    draw();
    openDialog("Compare versions", [el("div", { class: "actions" }, a, "with", b), area]);
}
