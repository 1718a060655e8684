// view_store.js - versions and their snapshots: bytes, what pruning cost, growth; compare, roll back, export.

import { activateWord, askToActivate, askToDiscard, canDiscard, gateWords } from "./activate.js";
import { el, swap } from "./dom.js";
import { bytes, clock, percent, plural, signed, sum } from "./format.js";
import { keptList } from "./kept.js";
import { bar, card, figures, PagedTable } from "./parts.js";
import { Plot } from "./plot.js";
import { exportDialog, openComparison } from "./versions.js";
import { isAdmin, state, watch } from "./state.js";

function versionTable() {
    const table = new PagedTable({ label: "Versions", none: "The first version comes with the first job that succeeds.", columns: [
        { title: "Version", cell: ({ model }) => versionName(model) },
        { title: "Step", kind: "number", cell: ({ model }) => model.step },
        { title: "Classes", kind: "number", cell: ({ model }) => model.classes },
        { title: "Accuracy", kind: "number", cell: ({ model }) => percent(model.serving_accuracy) },
        { title: "Snapshot", kind: "number", cell: ({ snapshot }) => (snapshot ? bytes(snapshot.bytes) : "") },
        { title: "Of dense", kind: "number", cell: ({ snapshot }) => (snapshot ? el("span", { class: "meter" },
            percent(snapshot.share), bar(Math.min(1, snapshot.share), "")) : "") },
        { title: "Pruned away", kind: "number", cell: ({ snapshot }) => (snapshot ? percent(snapshot.sparsity) : "") },
        { title: "By pruning", kind: "number",
            cell: ({ snapshot }) => (snapshot ? `${signed(negated(snapshot.accuracy_lost))} points` : "") },
        { title: "Networks", kind: "number", cell: ({ model }) => model.experts + 1 },
        { title: "Made", cell: ({ model }) => clock(model.created) },
        { title: "", kind: "buttons", cell: ({ model }) => buttons(model) },
    ] });
    return table;
}

function versionName(model) {
    if (model.active)
        return el("strong", {}, `${model.version} serves`);
    return model.published ? model.version
        : el("span", { class: "warn-text", title: gateWords(model.gate) ?? "It never served" }, `${model.version} held back`);
}

const negated = (share) => (share === null ? null : -share);

function buttons(model) {
    const quiet = (text, key, action) => el("button", { type: "button", class: "quiet", "data-key": `${key}-${model.version}`,
        "aria-label": `${text} version ${model.version}`, onclick: action }, text);
    const admin = isAdmin();
    return [state.models.length > 1 ? quiet("Compare", "compare", () => openComparison(model)) : null,
        admin && !model.active ? quiet(activateWord(model), "activate", () => askToActivate(model)) : null,
        admin ? quiet("Export", "export", () => exportDialog(model)) : null,
        admin && canDiscard(model) ? quiet("Discard", "discard", () => askToDiscard(model)) : null].filter(Boolean);
}

function growthPlot() {
    return new Plot({ title: "Size of all snapshots after each version", x: { title: "Version", whole: true, offset: true },
        y: { title: "Bytes", min: 0, words: bytes },
        tell: (p, series) => `${series}, version ${p.x}: ${bytes(p.y)}`,
        columns: [{ title: "Version", kind: "number", cell: (r) => r.version },
            { title: "This snapshot", kind: "number", cell: (r) => bytes(r.bytes) },
            { title: "All so far", kind: "number", cell: (r) => bytes(r.total) },
            { title: "All, if dense", kind: "number", cell: (r) => bytes(r.dense) }] });
}

function growth(snapshots) {
    let total = 0, dense = 0;
    return [...snapshots].reverse().map((s) => ({ version: s.version, bytes: s.bytes, total: total += s.bytes, dense: dense += s.dense_bytes }));
}

function headline(snapshots) {
    const small = sum(snapshots, (s) => s.bytes), dense = sum(snapshots, (s) => s.dense_bytes);
    const lost = snapshots.map((s) => s.accuracy_lost).filter((l) => l !== null);
    return figures([
        ["Snapshots", bytes(small), `${plural(snapshots.length, "snapshot")}, experts and teachers of later steps`],
        ["If dense", bytes(dense), "The same models with every weight as a 32-bit number"],
        ["Share of dense", dense ? percent(small / dense) : "–", "Bytes kept of bytes dense"],
        ["Accuracy by pruning, mean", lost.length ? `${signed(-sum(lost, (l) => l) / lost.length)} points` : "–",
            "By pruning, on all test images"],
    ]);
}

export function mountStore(view) {
    const head = el("div", {}), keep = el("div", {}), table = versionTable(), plot = growthPlot();
    const plotCard = card("Growth", { wide: true }, plot.node);
    view.append(card("Snapshots", { wide: true, note: "A pruned copy of each version: later steps learn from these instead of old images, and ask the first of them in predictions." }, head),
        card("Versions", { wide: true }, table.node), plotCard, card("What is kept", { wide: true }, keep));
    watch(view, ["snapshots"], () => {
        swap(head, headline(state.snapshots));
        plotCard.hidden = state.snapshots.length === 0;
        const rows = growth(state.snapshots);
        if (rows.length)
            plot.update({ rows, series: [{ label: "Snapshots", points: rows.map((r) => ({ x: r.version, y: r.total })), look: { bars: true, tint: "series-1" } },
                { label: "If stored dense", points: rows.map((r) => ({ x: r.version, y: r.dense })), look: { tint: "series-2", dash: 1 } }],
            summary: `${bytes(rows.at(-1).total)} after ${plural(rows.length, "version")}; dense it would be ${bytes(rows.at(-1).dense)}.` });
    });
    watch(view, ["models", "snapshots", "session"], () => {
        const byVersion = new Map(state.snapshots.map((s) => [s.version, s]));
        table.update(state.models.map((model) => ({ model, snapshot: byVersion.get(model.version) })));
    });
    watch(view, ["storage"], () => state.storage && swap(keep, keptList(state.storage)));
}
