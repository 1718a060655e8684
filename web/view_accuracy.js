// view_accuracy.js - is the model worth keeping? Accuracy by classes seen, the matrix with forgetting, classes, confusions.

import { el, swap } from "./dom.js";
import { count, NONE, percent, plural, points, signed } from "./format.js";
import { HeatMap } from "./heatmap.js";
import { bar, card, empty, figures, notice, PagedTable, tableBehind } from "./parts.js";
import { Plot } from "./plot.js";
import { averages, curve, earlierRuns, readReference, servingRun } from "./runs.js";
import { state, update, watch } from "./state.js";

const MOST_RUNS = 2; // earlier ones on the chart beside this run's two lines
const MOST_CONFUSED = 20;

// ---- accuracy against classes seen ----

function accuracyPlot() {
    return new Plot({ title: "Accuracy against classes seen", tall: true, x: { title: "Classes seen", whole: true },
        y: { title: "Accuracy", percent: true, min: 0, max: 1 },
        tell: (p, series) => `${series}, ${plural(p.x, "class", "classes")}: ${percent(p.y)}`,
        columns: [
            { title: "Version", cell: (r) => r.model.version },
            { title: "Classes seen", kind: "number", cell: (r) => r.model.classes },
            { title: "After this step", kind: "number", cell: (r) => percent(r.model.serving_accuracy) },
            { title: "Average so far", kind: "number", cell: (r) => percent(r.average) }] });
}

function drawAccuracy(plot) {
    const run = servingRun(state.models), average = averages(run);
    const others = [...earlierRuns(state.models).slice(0, MOST_RUNS), ...(state.reference ? [state.reference] : [])];
    plot.update({
        series: [{ label: "After each step (last)", points: curve(run) },
            { label: "Average incremental", points: average },
            ...others.map((o, i) => ({ ...o, look: { thin: true, tint: i % 2 ? "series-4" : "series-3", dash: 2 + (i % 2) } }))],
        rows: run.map((model, i) => ({ model, average: average[i].y })),
        summary: run.length ? `Accuracy falls from ${percent(run[0].serving_accuracy)} with ${plural(run[0].classes, "class", "classes")} ` +
            `to ${percent(run.at(-1).serving_accuracy)} with ${run.at(-1).classes}.` : "No version yet.",
    });
}

function referenceControls() {
    const input = el("input", { type: "file", accept: ".json,application/json", class: "hidden", id: "reference-file",
        "aria-label": "The history of another run, JSON" });
    input.addEventListener("change", async () => {
        try {
            update({ reference: readReference(input.files[0].name, await input.files[0].text()) });
        } catch (error) {
            notice(error.message, "bad");
        }
        input.value = "";
    });
    const clear = el("button", { type: "button", class: "quiet", onclick: () => update({ reference: null }) }, "Remove it");
    const line = el("div", { class: "actions" });
    watch(null, ["reference"], () => swap(line, input,
        el("button", { type: "button", class: "quiet", "data-key": "reference", onclick: () => input.click() },
            "Compare with another run …"), state.reference ? clear : null,
        el("a", { href: "/api/v1/history", download: "history.json" }, "JSON"),
        el("a", { href: "/api/v1/history?format=csv", download: "history.csv" }, "CSV")));
    return line;
}

// ---- the matrix ----

const best = (matrix, i) => Math.max(...matrix.map((row) => row[i] ?? -1));

function cellWords(t, i) {
    const share = state.history.accuracy_matrix[t][i];
    const peak = best(state.history.accuracy_matrix.slice(0, t + 1), i);
    const lost = share !== null && peak > share ? `, ${points(peak - share)} points below its best` : "";
    return `After step ${t + 1}, on the classes of step ${i + 1}: ${percent(share)}${lost}`;
}

function matrixRows(history) {
    const rows = [];
    history.accuracy_matrix.forEach((row, t) => row.forEach((share, i) => i <= t && rows.push({ t, i, share })));
    return rows;
}

function forgettingTable() {
    return new PagedTable({ label: "Forgetting by step", size: 10, none: "Forgetting is told from the second step on.",
        columns: [
            { title: "Classes of step", cell: (r) => r.step, sort: (r) => r.step },
            { title: "Best", kind: "number", cell: (r) => percent(r.best) },
            { title: "Now", kind: "number", cell: (r) => percent(r.now) },
            { title: "Forgotten, points", kind: "number", sort: (r) => r.lost ?? -9,
                cell: (r) => el("span", { class: "meter" }, points(r.lost), bar(Math.max(0, r.lost ?? 0), "")) }] });
}

function forgettingRows({ accuracy_matrix: matrix, forgetting }) {
    return forgetting.map((lost, i) => ({ step: i + 1, lost, now: matrix.at(-1)[i],
        best: lost === null ? null : best(matrix.slice(0, -1), i) }));
}

// ---- classes ----

function classTable() {
    return new PagedTable({ label: "Accuracy by class", size: 15, order: { column: 3, falling: false },
        columns: [
            { title: "Class", kind: "name", cell: (c) => c.name, sort: (c) => c.name },
            { title: "Step", kind: "number", cell: (c) => c.step, sort: (c) => c.step },
            { title: "Test images", kind: "number", cell: (c) => count(c.total), sort: (c) => c.total },
            { title: "Right", kind: "number", sort: (c) => c.accuracy ?? 2,
                cell: (c) => el("span", { class: "meter" }, percent(c.accuracy),
                    c.accuracy === null ? null : bar(c.accuracy, "")) }] });
}

// ---- confusions ----

function confusions({ classes, counts }) {
    const list = [];
    counts.forEach((row, truth) => {
        const total = row.reduce((a, b) => a + b, 0);
        row.forEach((n, taken) => truth !== taken && n > 0 &&
            list.push({ truth: classes[truth], taken: classes[taken], n, share: n / total }));
    });
    return list.sort((a, b) => b.n - a.n || b.share - a.share);
}

function confusionTable() {
    return new PagedTable({ label: "Top confusions", size: 12, none: "No test image was taken for another class.",
        columns: [
            { title: "Is", kind: "name", cell: (c) => c.truth, sort: (c) => c.truth },
            { title: "Taken for", kind: "name", cell: (c) => c.taken, sort: (c) => c.taken },
            { title: "Images", kind: "number", cell: (c) => count(c.n), sort: (c) => c.n },
            { title: "Of its class", kind: "number", sort: (c) => c.share,
                cell: (c) => el("span", { class: "meter" }, percent(c.share), bar(c.share, "")) }] });
}

// Which classes the map shows: all, or those that are confused most.
function chosen({ classes, counts }, onlyWorst) {
    const all = classes.map((_, i) => i).filter((i) => counts[i].some((n) => n > 0) || counts.some((row) => row[i] > 0));
    if (!onlyWorst || all.length <= MOST_CONFUSED)
        return all;
    const wrong = (i) => counts[i].reduce((total, n, j) => total + (i === j ? 0 : n + counts[j][i]), 0);
    return [...all].sort((a, b) => wrong(b) - wrong(a)).slice(0, MOST_CONFUSED).sort((a, b) => a - b);
}

class ConfusionMap {
    constructor() {
        this.heat = new HeatMap({ label: "Confusion matrix: rows are the true classes, columns what they were taken for",
            describe: (r, c) => this.words(r, c) });
        this.worst = el("input", { type: "checkbox", id: "worst-only" });
        this.worst.addEventListener("change", () => this.draw());
        this.choice = el("label", { for: "worst-only" }, this.worst, ` Only the ${MOST_CONFUSED} classes confused most`);
        this.node = el("figure", {}, el("figcaption", {}, "Rows: what it is; columns: what it was taken for; share of the row"),
            this.choice, this.heat.node);
    }

    words(r, c) {
        const { classes, counts } = this.confusion, from = this.order[r], to = this.order[c];
        return `${classes[from]} taken for ${classes[to]}: ${count(counts[from][to])} of ${count(this.totals[from])} ` +
            `(${percent(this.share(r, c))})`;
    }

    share(r, c) {
        const row = this.order[r], total = this.totals[row];
        return total ? this.confusion.counts[row][this.order[c]] / total : null;
    }

    update(confusion) {
        this.confusion = confusion;
        this.totals = confusion.counts.map((row) => row.reduce((a, b) => a + b, 0));
        this.choice.hidden = confusion.classes.length <= MOST_CONFUSED;
        this.draw();
    }

    draw() {
        this.order = chosen(this.confusion, this.worst.checked);
        const list = this.order.map((i) => this.confusion.classes[i]);
        this.heat.update({ rows: list, columns: list, text: (share) => (share ? Math.round(100 * share) : ""),
            value: (r, c) => (r >= 0 && c >= 0 && r < list.length && c < list.length ? this.share(r, c) : undefined) });
    }
}

// ---- the view ----

function headline(history) {
    return figures([
        ["Last accuracy", percent(history.last), "On all test images of the classes seen, by the model that serves"],
        ["Average incremental", percent(history.average_incremental), "Mean of the accuracy after each step, the first one too"],
        ["Forgetting", history.forgetting_mean === null ? NONE : `${points(history.forgetting_mean)} points`,
            "Mean over the earlier steps: best accuracy they had, minus now"],
        ["Backward transfer", history.backward_transfer === null ? NONE : `${signed(history.backward_transfer)} points`,
            "Mean over the earlier steps: accuracy now, minus right after they were learned"],
    ]);
}

export function mountAccuracy(view) {
    const nothing = el("div", { class: "wide" }), head = el("div", {}), rest = el("div", { class: "grid wide" });
    const plot = accuracyPlot(), perClass = classTable(), forgetting = forgettingTable(), top = confusionTable();
    const heat = new HeatMap({ label: "Accuracy of each step's classes after each step", describe: cellWords });
    const behind = tableBehind("Accuracy matrix", [{ title: "After step", kind: "number", cell: (r) => r.t + 1 },
        { title: "Classes of step", kind: "number", cell: (r) => r.i + 1 },
        { title: "Accuracy", kind: "number", cell: (r) => percent(r.share) }]);
    const map = new ConfusionMap();
    const unmeasured = el("p", { class: "note" }, "No test images were measured. Upload with a holdout, or a batch of test images.");
    rest.append(card("Overall", { wide: true, actions: [referenceControls()] }, head, plot.node),
        card("Step by step", { wide: true, note: "Rows: after which step; columns: on the classes of which step." },
            el("div", { class: "pair" }, el("figure", {}, heat.node, behind.node), el("div", {}, el("h3", {}, "Forgetting"), forgetting.node))),
        card("By class", { half: true }, perClass.node), card("Top confusions", { half: true }, top.node),
        card("Confusion matrix", { wide: true }, map.node, unmeasured));
    view.append(nothing, rest);

    watch(view, ["history", "ready"], () => {
        const { history } = state, some = Boolean(history?.versions.length);
        rest.hidden = !some;
        swap(nothing, some || !state.ready ? null : card("Accuracy", {}, empty("Nothing is measured yet. Once a first job has succeeded, its accuracy is here."),
            el("p", {}, el("a", { href: "#work" }, "Add classes"))));
        if (!some)
            return;
        swap(head, headline(history));
        const steps = history.versions.map((_, i) => String(i + 1));
        heat.update({ rows: steps, columns: steps, text: points,
            value: (t, i) => (i <= t ? history.accuracy_matrix[t]?.[i] : undefined) });
        behind.update(matrixRows(history));
        forgetting.update(forgettingRows(history));
        perClass.update(history.per_class);
        const measured = Boolean(history.confusion?.counts.some((row) => row.some((n) => n > 0)));
        map.node.hidden = !measured;
        unmeasured.hidden = measured;
        if (measured) {
            map.update(history.confusion);
            top.update(confusions(history.confusion));
        }
    });
    watch(view, ["models", "reference", "history"], () => state.history?.versions.length && drawAccuracy(plot));
}
