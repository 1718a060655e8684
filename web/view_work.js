// view_work.js - data and jobs: add classes, what is uploaded, start a job, what ran.

import { gateWords } from "./activate.js";
import { call, get, getTagged, post } from "./api.js";
import { classList } from "./classes.js";
import { load, loadOlderJobs, showCurves } from "./data.js";
import { askButton, confirmAction, openDialog } from "./dialog.js";
import { el, swap } from "./dom.js";
import { bytes, clock, count, duration, names, percent, plural } from "./format.js";
import { actionButton, bar, card, notice, PagedTable } from "./parts.js";
import { isAdmin, isFinal, state, watch } from "./state.js";
import { Upload } from "./upload.js";
import { cancelButton } from "./view_now.js";

// ---- batches ----

function batchState(b) {
    if (b.train_images === 0)
        return "test images";
    return b.state === "consumed" ? `learned in version ${b.consumed_version}` : b.state.replace("_", " ");
}

function batchTable() {
    const train = (b) => (b.state === "consumed" ? "deleted" : `${count(b.train_images)} (${bytes(b.train_bytes)})`);
    return new PagedTable({ label: "Batches", size: 8, none: "No batch yet. Add classes above.", columns: [
        { title: "Batch", kind: "name", cell: (b) => b.name },
        { title: "Classes", kind: "name", cell: (b) => names(b.classes.map((c) => c.name), 5) },
        { title: "State", cell: batchState },
        { title: "Training images", kind: "number", cell: (b) => (b.train_images ? train(b) : "") },
        { title: "Test images", kind: "number", cell: (b) => (b.test_images ? `${count(b.test_images)} (${bytes(b.test_bytes)})` : "") },
        { title: "Verdicts", cell: verdicts },
        { title: "", kind: "buttons stay", cell: deleteButton },
    ] });
}

const deleteButton = (b) => (isAdmin() && b.state !== "in_use"
    ? askButton("Delete", async () => askToDelete(await getTagged(`batches/${b.name}`)),
        { "data-key": `delete-${b.name}`, "aria-label": `Delete batch ${b.name}` }) : "");

function askToDelete({ value: b, tag }) {
    const learned = b.state === "consumed";
    confirmAction(`Delete batch ${b.name}?`, [
        b.train_images && !learned ? `${plural(b.train_images, "training image")} of ${names(b.classes.map((c) => c.name))} ` +
            `${b.train_images === 1 ? "goes" : "go"}: ${bytes(b.train_bytes)} that no job can learn any more.` : null,
        b.test_images ? `${plural(b.test_images, "test image")} ${b.test_images === 1 ? "goes" : "go"}: ${bytes(b.test_bytes)}. ` +
            "Later steps are not measured on them." : null,
        learned ? `What version ${b.consumed_version} learned from it stays, as does the accuracy measured so far.` : null,
        "Only uploading it again brings it back.",
    ], `Delete ${b.name}`, async () => {
        const gone = await call("DELETE", `batches/${b.name}`, { match: tag });
        load("batches", "classes", "storage", "jobs");
        notice(`Batch ${gone.name} is gone; ${bytes(gone.freed_bytes)} are free. What remains: ${gone.remains}`);
    }, { danger: true });
}

function verdicts(b) {
    if (b.rejected + b.duplicates + b.warnings.length === 0)
        return `${count(b.accepted)} accepted`;
    return el("button", { type: "button", class: "quiet", "data-key": `verdicts-${b.name}`, onclick: () => verdictDialog(b) },
        [plural(b.rejected, "rejected", "rejected"), plural(b.duplicates, "duplicate"), plural(b.warnings.length, "warning")]
            .filter((text) => !text.startsWith("0 ")).join(", "));
}

function verdictDialog(b) {
    const table = new PagedTable({ label: "Files not accepted", none: "Every file was accepted.", columns: [
        { title: "File", kind: "name", cell: (v) => v.file },
        { title: "Verdict", cell: (v) => v.verdict },
        { title: "Why", kind: "name", cell: (v) => v.reason }] });
    table.update(b.verdicts);
    openDialog(`Batch ${b.name}`, [el("ul", { class: "plain" }, b.warnings.map((w) => el("li", { class: "warn-text" }, w.detail))),
        table.node]);
}

// ---- start a job ----

// What is asked for; empty: the daemon's default. `first`: only the first job may choose it.
const FIELDS = [
    ["epochs", "Epochs", { type: "number", min: 1, max: 10000 }],
    ["lr", "Learning rate", { type: "number", min: 0.000001, max: 100, step: "any" }],
    ["gate", "Hold it back above a loss of", { type: "number", min: 0, max: 1, step: "any",
        title: "Mean loss of the earlier steps' accuracy, 0 to 1, with which the new version still takes over" }],
    ["seed", "Seed", { type: "number", min: 0 }],
];
const DEPTHS = [8, 14, 18, 20, 32, 44, 56, 110];

class JobForm {
    constructor() {
        this.chosen = new Set();
        this.asked = false; // for a batch that may not be listed yet
        this.node = el("div", {});
        this.inputs = FIELDS.map(([key, title, attributes]) => [key, title,
            el("input", { id: `job-${key}`, placeholder: "default", ...attributes })]);
        this.depth = el("select", { id: "job-depth" }, el("option", { value: "" }, "default"),
            DEPTHS.map((d) => el("option", { value: d }, `ResNet-${d}`)));
    }

    ready() {
        return state.batches.filter((b) => b.state === "ready" && b.train_images > 0);
    }

    choose(names) {
        this.chosen = new Set(names);
        this.asked = true;
        this.draw();
    }

    // Once, as soon as what was asked for is there.
    comeForward(ready) {
        if (!this.asked || !ready.some((b) => this.chosen.has(b.name)))
            return;
        this.asked = false;
        this.node.scrollIntoView({ block: "center" });
        this.node.querySelector("button").focus();
    }

    tick(batch) {
        const box = el("input", { type: "checkbox", checked: this.chosen.has(batch.name), "data-key": `use-${batch.name}` });
        box.addEventListener("change", () => (box.checked ? this.chosen.add(batch.name) : this.chosen.delete(batch.name)));
        return el("label", {}, box, ` ${batch.name}: ${names(batch.classes.map((c) => c.name), 5)}, ${plural(batch.train_images, "image")}`);
    }

    draw() {
        const ready = this.ready();
        if (!isAdmin() || ready.length === 0) {
            swap(this.node, el("p", { class: "note" }, isAdmin() ? "No batch is ready to be learned. Add classes first."
                : "Read only: starting a job needs a token of scope admin."));
            return;
        }
        const field = ([key, title, input]) => el("label", { for: `job-${key}` }, title, input);
        swap(this.node, el("fieldset", {}, el("legend", {}, "Batches to learn together, in one step"), ready.slice(0, 50).map((b) => this.tick(b))),
            el("div", { class: "fields" }, this.inputs.map(field),
                state.models.length ? null : field(["depth", "Network", this.depth])),
            el("div", { class: "actions" }, actionButton("Start", () => this.start(), { class: "primary", "data-key": "start" })));
        this.comeForward(ready);
    }

    body() {
        const options = {};
        for (const [key, , input] of this.inputs)
            if (input.value !== "")
                options[key] = Number(input.value);
        if (!state.models.length && this.depth.value)
            options.depth = Number(this.depth.value);
        return { batches: [...this.chosen].filter((name) => this.ready().some((b) => b.name === name)), options };
    }

    async start() {
        const body = this.body();
        if (body.batches.length === 0) {
            notice("Choose a batch to learn.", "bad");
            return;
        }
        if (!this.inputs.every(([, , input]) => input.reportValidity()))
            return;
        const job = await post("jobs", { json: body });
        notice(`Job ${job.id} is queued. Watch it under Now.`);
        this.chosen.clear();
        load("jobs", "batches");
    }
}

// ---- jobs ----

function jobState(job) {
    if (job.error)
        return el("span", { class: "bad-text" }, `failed, ${job.error.code}`);
    if (job.state === "running")
        return el("span", { class: "meter" }, percent(job.progress, 0), bar(job.progress, ""));
    if (job.published === false)
        return el("span", { class: "warn-text" }, "succeeded, held back");
    return job.state === "queued" ? `waits, place ${job.queue_position}` : job.state;
}

function jobTable() {
    const took = (j) => (j.started && j.finished ? duration((new Date(j.finished) - new Date(j.started)) / 1000) : "");
    return new PagedTable({ label: "Jobs", size: 10, none: "No job yet.",
        more: () => (state.olderJobs ? loadOlderJobs : null),
        columns: [
            { title: "Job", kind: "number", cell: (j) => j.id },
            { title: "Batches", kind: "name", cell: (j) => names(j.batches, 3) || "imported" },
            { title: "State", cell: jobState },
            { title: "Version", kind: "number", cell: (j) => j.version ?? "" },
            { title: "Took", kind: "number", cell: took },
            { title: "Finished", cell: (j) => (j.finished ? clock(j.finished) : "") },
            { title: "", kind: "buttons stay", cell: jobButtons },
        ] });
}

function jobButtons(job) {
    const quiet = (text, action) => el("button", { type: "button", class: "quiet", "data-key": `${text}-${job.id}`,
        "aria-label": `${text} of job ${job.id}`, onclick: action }, text);
    const live = !isFinal(job) && job.state !== "cancelling" && isAdmin();
    const again = isAdmin() && job.batches.length > 0 && (job.state === "failed" || job.state === "cancelled");
    return [live ? cancelButton(job) : null, again ? retryButton(job) : null, quiet("Details", () => jobDialog(job))].filter(Boolean);
}

const retryButton = (job) => actionButton("Retry", async () => {
    const next = await post(`jobs/${job.id}/retry`);
    notice(`Job ${next.id} does job ${job.id} again.`);
    load("jobs", "batches");
}, { class: "quiet", "data-key": `retry-${job.id}`, "aria-label": `Retry job ${job.id}` });

// What a job did, read when it is opened.
function logPart(job) {
    const lines = el("ol", { class: "log" });
    const node = el("details", {}, el("summary", {}, "Log"), lines);
    node.addEventListener("toggle", async () => {
        if (!node.open)
            return;
        try {
            const log = await get(`jobs/${job.id}/logs`);
            swap(lines, log.lines.map((line) => el("li", { class: line.level === "error" ? "bad-text" : "" },
                el("time", { class: "note", datetime: line.time }, clock(line.time)), ` ${line.message}`)));
        } catch (error) {
            swap(lines, el("li", { class: "bad-text" }, error.message));
        }
    });
    return node;
}

function jobDialog(job) {
    const row = (name, value) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value));
    const options = Object.entries(job.options).map(([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`);
    const body = [
        job.error ? el("p", { class: "bad-text" }, job.error.detail) : null,
        el("table", {}, el("tbody", {}, row("State", job.state), row("Batches", names(job.batches, 20)),
            job.retry_of === null ? null : row("Repeats", `job ${job.retry_of}`), row("Created", clock(job.created)), row("Started", clock(job.started)), row("Finished", clock(job.finished)),
            row("Training images", job.train_images === null ? "" : count(job.train_images)),
            row("Speed", job.images_per_second ? `${count(Math.round(job.images_per_second))} images/s` : ""),
            row("Ran on", job.kernel ? `${job.kernel}, ${plural(job.threads, "thread")}` : ""),
            row("Gate", gateWords(job.gate) ?? ""),
            row("Interrupted", job.restarts ? plural(job.restarts, "time") : "never"),
            row("Can be made again bit for bit", job.reproducible === null ? "not known yet" : job.reproducible ? "yes" : "no"))),
        logPart(job),
        el("details", {}, el("summary", {}, "Options"), el("p", { class: "note" }, options.join(" · "))),
        el("p", {}, el("a", { href: "#now", onclick: () => showCurves(job.id) }, "Show its curves")),
    ];
    const dialog = openDialog(`Job ${job.id}`, body);
    dialog.querySelector("a").addEventListener("click", () => dialog.close());
}

export function mountWork(view) {
    const form = new JobForm(), batches = batchTable(), jobs = jobTable(), classes = classList();
    const upload = new Upload((batch) => form.choose([batch.name]));
    view.append(card("Add classes", { wide: true }, upload.node), card("Learn", { wide: true }, form.node),
        card("Jobs", { wide: true }, jobs.node), card("Batches", { wide: true }, batches.node),
        card("Classes", { wide: true, note: "What the version that serves knows." }, classes.node));
    watch(view, ["batches", "session", "models"], () => form.draw());
    watch(view, ["batches", "session"], () => batches.update(state.batches));
    watch(view, ["classes", "session"], () => classes.update(state.classes));
    watch(view, ["jobs", "session", "olderJobs"], () => jobs.update(state.jobs));
}
