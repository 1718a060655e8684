// app.js - asks the API every two seconds and fills the page. Names come from clients: text only, never markup.

import { lineChart } from "./chart.js";

const PERIOD_MS = 2000;
const PHASES = ["validate", "distil", "train", "prune", "evaluate", "publish"];

async function get(path) {
    const reply = await fetch(`/api/v1/${path}`, { signal: AbortSignal.timeout(10 * PERIOD_MS) });
    if (!reply.ok)
        throw new Error(`${path}: ${reply.status} ${reply.statusText}`);
    return reply.json();
}

// ---- making elements ----

function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className)
        element.className = className;
    element.append(...children.map((c) => (c instanceof Node ? c : String(c))));
    return element;
}

const byId = (id) => document.getElementById(id);
const show = (id, visible) => { byId(id).hidden = !visible; };

// Columns: [title, class of its cells, function (object) -> text or element]
function table(id, columns, objects) {
    const head = make("thead", "", make("tr", "", ...columns.map(([title, kind]) => make("th", kind, title))));
    const rows = objects.map((o) => make("tr", "", ...columns.map(([, kind, cell]) => make("td", kind, cell(o)))));
    byId(id).replaceChildren(head, make("tbody", "", ...rows));
}

// ---- numbers as people read them ----

const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);
const points = (share) => (share === null ? "–" : (100 * share).toFixed(1));
const count = (n) => n.toLocaleString("en");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const clock = (text) => (text ? new Date(text).toLocaleString() : "");

function bytes(n) {
    const units = ["bytes", "kB", "MB", "GB", "TB"];
    let i = 0;
    for (; n >= 1000 && i < units.length - 1; i++)
        n /= 1000;
    return `${n.toFixed(i ? 1 : 0)} ${units[i]}`;
}

function duration(seconds) {
    if (seconds < 90)
        return `${Math.round(seconds)} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// ---- the parts of the page ----

function showModel(model, history) {
    if (!model) {
        byId("model").replaceChildren(make("p", "big", "No model"),
            make("p", "note", "Predictions are answered once a first job has succeeded."));
        return;
    }
    byId("model").replaceChildren(
        make("p", "big", `Version ${model.version}`),
        make("p", "", `${model.classes === 1 ? "1 class" : `${count(model.classes)} classes`}, ` +
            (history.last === null ? "accuracy not measured" : `${percent(history.last)} right`)),
        make("p", "note", model.class_names.slice(0, 12).join(", ") + (model.classes > 12 ? " …" : "")));
}

function phaseList(job) {
    return make("ul", "phases", ...PHASES.map((phase) => make("li", phase === job.phase ? "now" : "", phase)));
}

function showRunning(jobs) {
    const job = jobs.find((j) => j.state === "running" || j.state === "cancelling");
    const queued = jobs.filter((j) => j.state === "queued");
    const waiting = queued.length ? [make("p", "note", `${plural(queued.length, "job")} waiting`)] : [];
    if (!job) {
        byId("running").replaceChildren(make("p", "big", "Idle"), ...waiting);
        return;
    }
    const full = make("div", "");
    full.style.width = percent(job.progress).replace(" ", "");
    const bar = make("div", "bar", full);
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-label", `Progress of job ${job.id}`);
    bar.setAttribute("aria-valuenow", Math.round(100 * job.progress));
    const facts = [`Job ${job.id}: ${job.batches.join(", ")}`];
    if (job.images_per_second)
        facts.push(`${count(Math.round(job.images_per_second))} images/s`);
    if (job.eta_seconds !== null)
        facts.push(`${duration(job.eta_seconds)} left`);
    byId("running").replaceChildren(make("p", "big", `${Math.floor(100 * job.progress)} %`), bar, phaseList(job),
        make("p", "note", job.state === "cancelling" ? "being cancelled" : facts.join(" · ")), ...waiting);
}

function showKept(batches, snapshots) {
    const sum = (list, key) => list.reduce((total, o) => total + o[key], 0);
    const pending = batches.filter((b) => b.state !== "consumed");
    const kinds = [
        ["snapshot", snapshots.length, sum(snapshots, "bytes")],
        ["test image", sum(batches, "test_images"), sum(batches, "test_bytes")],
        ["training image", sum(pending, "train_images"), sum(pending, "train_bytes")],
    ];
    byId("kept").replaceChildren(make("p", "big", bytes(kinds.reduce((total, [, , size]) => total + size, 0))),
        ...kinds.map(([word, n, size]) => make("p", "", plural(n, word) + (n ? `, ${bytes(size)}` : ""))),
        make("p", "note", "Training images are deleted once they are learned."));
}

function figure(title, value) {
    return make("div", "", make("dt", "", title), make("dd", "", value));
}

function matrixCell(share) {
    if (share === undefined)
        return make("td", "");
    if (share === null)
        return make("td", "", "–");
    const cell = make("td", share > 0.85 ? "measured strong" : "measured", points(share));
    cell.style.setProperty("--share", `${Math.round(100 * share)}%`);
    return cell;
}

function showHistory(history) {
    const rows = history.accuracy_matrix;
    show("history", rows.length > 0);
    byId("measures").replaceChildren(
        figure("Average incremental", percent(history.average_incremental)),
        figure("Last", percent(history.last)),
        figure("Forgetting, points", points(history.forgetting_mean)),
        figure("Backward transfer, points", points(history.backward_transfer)));
    byId("chart").replaceChildren(lineChart(history.accuracy));
    const head = make("tr", "", make("td", ""), ...rows.map((_, i) => make("th", "", i + 1)));
    const body = rows.map((row, t) => make("tr", "", make("th", "", `after step ${t + 1}`),
        ...rows.map((_, i) => matrixCell(row[i]))));
    byId("matrix").replaceChildren(make("thead", "", head), make("tbody", "", ...body));
}

function showSnapshots(snapshots) {
    show("snapshots-card", snapshots.length > 0);
    table("snapshots", [
        ["Version", "", (s) => s.version],
        ["Bytes", "number", (s) => bytes(s.bytes)],
        ["Dense", "number", (s) => bytes(s.dense_bytes)],
        ["Share", "number", (s) => percent(s.share)],
        ["Weights pruned", "number", (s) => percent(s.sparsity)],
        ["Accuracy dense", "number", (s) => percent(s.accuracy_dense)],
        ["Accuracy pruned", "number", (s) => percent(s.accuracy_pruned)],
    ], snapshots);
}

function jobState(job) {
    return job.error ? make("span", "error", `${job.state}: ${job.error.detail}`) : job.state;
}

function showJobs(jobs) {
    show("jobs-card", jobs.length > 0);
    table("jobs", [
        ["Job", "", (j) => j.id],
        ["Batches", "name", (j) => j.batches.join(", ")],
        ["State", "", jobState],
        ["Progress", "number", (j) => `${Math.floor(100 * j.progress)} %`],
        ["Version", "number", (j) => j.version ?? ""],
        ["Finished", "number", (j) => clock(j.finished)],
    ], jobs);
}

function showBatches(batches) {
    show("batches-card", batches.length > 0);
    const learned = (b) => (b.state === "consumed" ? `learned in version ${b.consumed_version}` : b.state.replace("_", " "));
    const train = (b) => (b.state === "consumed" ? "deleted" : `${count(b.train_images)} (${bytes(b.train_bytes)})`);
    const test = (b) => (b.test_images ? `${count(b.test_images)} (${bytes(b.test_bytes)})` : "");
    table("batches", [
        ["Batch", "name", (b) => b.name],
        ["Classes", "name", (b) => b.classes.map((c) => c.name).join(", ")],
        ["State", "", (b) => (b.train_images ? learned(b) : "test images")],
        ["Training images", "number", (b) => (b.train_images ? train(b) : "")],
        ["Test images", "number", test],
        ["Warnings", "", (b) => b.warnings.map((w) => w.detail).join(" ")],
    ], batches);
}

function showWelcome(visible) {
    const api = `${location.origin}/api/v1`;
    show("welcome", visible);
    byId("upload-command").textContent = `tar -C photos -c . | curl -T - '${api}/batches/first?holdout=0.1'`;
    byId("train-command").textContent = `curl --json '{"batches":["first"]}' ${api}/jobs`;
    byId("ask-command").textContent = `curl --data-binary @photo.jpg ${api}/predict`;
}

async function refresh() {
    try {
        const [{ jobs }, history, { batches }, { models }, { snapshots }] =
            await Promise.all(["jobs", "history", "batches", "models", "snapshots"].map(get));
        const model = models.find((m) => m.active);
        showWelcome(!model && jobs.length === 0);
        showModel(model, history);
        showRunning(jobs);
        showKept(batches, snapshots);
        showHistory(history);
        showSnapshots(snapshots);
        showJobs(jobs);
        showBatches(batches);
        byId("state").textContent = `as of ${new Date().toLocaleTimeString()}`;
        show("trouble", false);
    } catch (error) {
        byId("trouble").textContent = `The daemon does not answer (${error.message}). ` +
            "Is it running? This page goes on asking; what it shows may be old.";
        show("trouble", true);
    }
    setTimeout(refresh, PERIOD_MS);
}

refresh();
