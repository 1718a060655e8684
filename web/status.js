// status.js - asks the API every two seconds and fills the page. Names come from clients: only ever textContent.

const PERIOD_MS = 2000;

async function get(path) {
    const reply = await fetch(`/api/v1/${path}`);
    if (!reply.ok)
        throw new Error((await reply.json()).detail);
    return reply.json();
}

function cell(tag, content) {
    const element = document.createElement(tag);
    element.append(content);
    return element;
}

function row(...cells) {
    const element = document.createElement("tr");
    element.append(...cells.map((c) => (c instanceof Element ? c : cell("td", String(c)))));
    return element;
}

function fill(id, rows, columns, otherwise) {
    if (rows.length === 0 && otherwise) {
        const only = cell("td", otherwise);
        only.colSpan = columns;
        rows = [row(only)];
    }
    document.getElementById(id).replaceChildren(...rows);
}

const percent = (share) => (share === null ? "–" : (100 * share).toFixed(1));

function bytes(n) {
    const units = ["bytes", "KiB", "MiB", "GiB"];
    let i = 0;
    for (; n >= 1024 && i < units.length - 1; i++)
        n /= 1024;
    return `${n.toFixed(i ? 1 : 0)} ${units[i]}`;
}

function duration(seconds) {
    if (seconds === null)
        return "";
    return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function jobState(job) {
    const text = job.state === "running" && job.phase ? `running: ${job.phase}` : job.state;
    const element = cell("td", job.error ? `${text}: ${job.error.detail}` : text);
    element.className = job.error ? "error" : "";
    return element;
}

function jobRow(job) {
    const bar = document.createElement("progress");
    bar.value = job.progress;
    bar.setAttribute("aria-label", `progress of job ${job.id}`);
    return row(job.id, job.batches.join(", "), jobState(job), cell("td", bar),
        duration(job.eta_seconds), job.version ?? "");
}

function batchRow(batch) {
    return row(batch.name, batch.classes.map((c) => c.name).join(", "), batch.state,
        batch.state === "consumed" ? "deleted" : `${batch.train_images} (${bytes(batch.train_bytes)})`,
        `${batch.test_images} (${bytes(batch.test_bytes)})`);
}

function showHistory(history) {
    const steps = history.versions.map((_, i) => cell("th", `step ${i + 1}`));
    const matrix = history.accuracy_matrix;
    fill("matrix-head", steps.length ? [row(cell("th", ""), ...steps)] : []);
    fill("matrix", matrix.map((accuracies, t) => row(cell("th", `after step ${t + 1}`),
        ...matrix.map((_, i) => (i <= t ? percent(accuracies[i]) : "")))), 1, "Nothing is learned yet.");
    document.getElementById("summary").textContent = steps.length
        ? `Average incremental accuracy ${percent(history.average_incremental)} %, ` +
          `last ${percent(history.last)} %, forgetting ${percent(history.forgetting_mean)} points.`
        : "";
}

async function refresh() {
    const state = document.getElementById("state");
    try {
        const [jobs, history, batches] = await Promise.all([get("jobs"), get("history"), get("batches")]);
        fill("jobs", jobs.jobs.map(jobRow), 6, "No jobs yet.");
        fill("batches", batches.batches.map(batchRow), 5, "No batches yet.");
        showHistory(history);
        const version = history.versions.at(-1);
        state.textContent = version ? `Version ${version} serves ${history.per_class.length} classes.`
            : "No model serves yet.";
        state.className = "";
    } catch (error) {
        state.textContent = `The daemon does not answer: ${error.message}`;
        state.className = "error";
    }
    setTimeout(refresh, PERIOD_MS);
}

refresh();
