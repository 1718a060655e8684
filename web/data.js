// data.js - keeps state.js true: reads the API, and reads again what a message of the feed touches.
//
// While the feed is open nothing is polled but a slow look for what a dead connection may have swallowed; without it the
// page asks every few seconds.

import { get, whenRefused } from "./api.js";
import { Feed } from "./feed.js";
import { isFinal, isSignedOut, runningJob, state, update } from "./state.js";

const POLL_MS = 3000, SLOW_POLL_MS = 30000, GATHER_MS = 80;
const POINTS = 400; // of a curve; the server thins it out

const loaders = {
    session: async () => update({ session: await get("session") }),
    models: async () => update({ models: (await get("models?limit=1000")).models }),
    history: async () => update({ history: await get("history") }),
    batches: async () => update({ batches: (await get("batches?limit=1000")).batches }),
    snapshots: async () => update({ snapshots: (await get("snapshots?limit=1000")).snapshots }),
    storage: async () => update({ storage: await get("storage") }),
    classes: async () => update({ classes: (await get("classes?limit=1000")).classes }),
    jobs: loadJobs,
    curves: loadCurves,
};
const EVERYTHING = ["models", "history", "batches", "snapshots", "classes", "storage", "jobs", "curves"];
const OF_A_VERSION = ["models", "history", "snapshots", "classes", "storage"];

async function loadJobs() {
    const { jobs, next_page_token } = await get("jobs?limit=100");
    const known = state.jobs.filter((j) => jobs.length && j.id < jobs.at(-1).id);
    update({ jobs: [...jobs, ...known], olderJobs: known.length ? state.olderJobs : next_page_token });
    const job = runningJob();
    if (!job)
        update({ live: null });
    else if (state.live?.job !== job.id)
        update({ live: { ...job, job: job.id } });
}

export async function loadOlderJobs() {
    const { jobs, next_page_token } = await get(`jobs?limit=100&page_token=${encodeURIComponent(state.olderJobs)}`);
    update({ jobs: [...state.jobs, ...jobs], olderJobs: next_page_token });
}

// The curves on the page are those of the running job; else of the one asked for, or of the latest that has any.
let chosenJob = null;

export function showCurves(id) {
    chosenJob = id;
    load("curves");
}

async function loadCurves() {
    const job = runningJob()?.id ?? chosenJob ?? state.jobs.find((j) => j.started !== null && j.batches.length)?.id;
    if (job === undefined)
        return;
    const { epochs } = await get(`jobs/${job}/metrics?points=${POINTS}`);
    update({ curves: { job, epochs } });
}

function addEpoch({ job, epoch }) {
    const { curves } = state;
    const last = curves.epochs.at(-1)?.epoch ?? -1;
    if (curves.job !== job || curves.epochs.length > 2 * POINTS)
        load("curves");
    else if (epoch.epoch > last)
        update({ curves: { job, epochs: [...curves.epochs, epoch] } });
}

// ---- reading ----

const wanted = new Set();
let running = false;

// Reads these soon, together and each once, however often it is asked.
export function load(...keys) {
    keys.forEach((key) => wanted.add(key));
    if (!running) {
        running = true;
        setTimeout(readWanted, GATHER_MS);
    }
}

async function readWanted() {
    const keys = [...wanted];
    wanted.clear();
    const curves = keys.includes("curves"); // they need to know the jobs
    const rest = keys.filter((key) => key !== "curves");
    await read(rest);
    if (curves)
        await read(["curves"]);
    running = false;
    if (wanted.size)
        load();
}

async function read(keys) {
    const results = await Promise.allSettled(keys.map((key) => loaders[key]()));
    const errors = results.filter((r) => r.status === "rejected").map((r) => r.reason);
    if (errors.some((e) => e.status === 0))
        update({ link: "down" });
    else if (keys.length && state.link !== "live")
        update({ link: feed?.open ? "live" : "polling" });
    const fault = errors.find((e) => e.status !== 0 && e.status !== 401);
    if (fault)
        console.warn("reading failed:", fault.message);
    return errors.length === 0;
}

// ---- the feed ----

let feed = null;

const reactions = {
    hello: () => load(...EVERYTHING),
    reset: () => load(...EVERYTHING),
    job: (data) => {
        load("jobs");
        if (isFinal(data))
            load("curves", "batches", "storage");
        else if (data.state === "running" && state.curves.job !== data.job)
            load("curves");
    },
    epoch: addEpoch,
    progress: (data) => update({ live: data }),
    batch: () => load("batches", "classes", "storage"),
    version: () => load(...OF_A_VERSION),
    classes: () => load(...OF_A_VERSION, "batches"),
};

function onLink(open) {
    update({ link: open ? "live" : "polling" });
    if (state.ready)
        load("session", ...EVERYTHING); // what was missed, or whether it answers at all
}

async function poll() {
    if (!document.hidden && !isSignedOut() && state.session)
        await read(state.link === "live" ? ["jobs"] : ["session", ...EVERYTHING]);
    else if (!document.hidden && state.link !== "live")
        await read(["session"]);
    setTimeout(poll, state.link === "live" ? SLOW_POLL_MS : POLL_MS);
}

async function readEverything() {
    if (await read(EVERYTHING.filter((key) => key !== "curves")))
        await read(["curves"]);
    update({ ready: true });
}

// After a change of who is signed in.
export async function startOver() {
    await read(["session"]);
    if (isSignedOut())
        return;
    await readEverything();
    feed?.reopen();
}

export async function start() {
    whenRefused(() => load("session"));
    if (await read(["session"]) && !isSignedOut())
        await readEverything();
    feed = new Feed({ onMessage: (kind, data) => reactions[kind](data), onLink, allowed: () => !isSignedOut() });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden && state.ready && state.link !== "live")
            load("session", ...EVERYTHING);
    });
    setTimeout(poll, POLL_MS);
}
