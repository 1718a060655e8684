// state.js - all that the page knows, in one place. Views read it and are told what changed, at most once a frame.

export const state = {
    session: null,      // schema/session.json
    link: "connecting", // live: by events; polling; down: no answer
    ready: false,       // everything was read once
    models: [],         // newest first
    history: null,
    jobs: [],           // newest first
    olderJobs: null,    // page token of older ones
    batches: [],
    snapshots: [],
    classes: [],
    storage: null,
    live: null,         // newest progress of the running job
    curves: { job: null, epochs: [] },
    theme: "",          // "", "light" or "dark"
    reference: null,    // another run's accuracy, from a file
};

const watchers = [];
let changed = new Set();

function notify() {
    const keys = changed;
    changed = new Set();
    for (const { view, wanted, render } of watchers) {
        if (wanted.some((key) => keys.has(key)))
            renderIn(view, render);
    }
}

// A hidden view is brought up to date when it is shown.
const stale = new Map();

function renderIn(view, render) {
    if (!view?.hidden) {
        render();
        return;
    }
    if (!stale.has(view))
        stale.set(view, new Set());
    stale.get(view).add(render);
}

export function shown(view) {
    const renders = stale.get(view) ?? [];
    stale.delete(view);
    renders.forEach((render) => render());
}

export function update(patch) {
    for (const [key, value] of Object.entries(patch)) {
        if (state[key] === value)
            continue;
        state[key] = value;
        if (changed.size === 0)
            requestAnimationFrame(notify);
        changed.add(key);
    }
}

// Calls `render` now or when `view` (an element; null: always) is shown, and again whenever one of the keys changed.
export function watch(view, wanted, render) {
    watchers.push({ view, wanted, render });
    renderIn(view, render);
}

// ---- what follows from it ----

export const activeModel = () => state.models.find((m) => m.active) ?? null;
export const runningJob = () => state.jobs.find((j) => j.state === "running" || j.state === "cancelling") ?? null;
export const queuedJobs = () => state.jobs.filter((j) => j.state === "queued").reverse();
export const isAdmin = () => state.session?.scope === "admin";
export const isSignedOut = () => state.session !== null && state.session.scope === null;
export const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);
