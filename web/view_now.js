// view_now.js - what serves, what is being learned, what waits, what is kept.

import { gateWords } from "./activate.js";
import { post } from "./api.js";
import { load } from "./data.js";
import { el, swap } from "./dom.js";
import { count, duration, names, NONE, percent, plural, points } from "./format.js";
import { keptFigures } from "./kept.js";
import { actionButton, card, empty, figures } from "./parts.js";
import { LossCurves } from "./curves.js";
import { activeModel, isAdmin, queuedJobs, runningJob, state, watch } from "./state.js";

const PHASES = { validate: "Read images", distil: "Ask teachers", train: "Train", prune: "Prune", evaluate: "Measure",
    publish: "Publish" };

function serving(model, history) {
    if (!model)
        return [empty("No model yet. Predictions are answered once a first job has succeeded."),
            el("p", {}, el("a", { href: "#work" }, "Add your first classes"))];
    const measured = history.last === null
        ? el("p", { class: "note" }, "Accuracy is not measured: keep test images aside when you upload (holdout).") : null;
    return [
        el("p", { class: "big" }, `Version ${model.version}`),
        el("p", {}, `${plural(model.classes, "class", "classes")}, step ${model.step}`),
        figures([
            ["Last accuracy", percent(history.last), "On all test images of the classes learned so far"],
            ["Average incremental", percent(history.average_incremental), "Mean of the accuracy after each step"],
            ["Forgetting", history.forgetting_mean === null ? NONE : `${points(history.forgetting_mean)} points`,
                "Mean over the earlier steps: best accuracy they ever had against now"],
        ]),
        measured,
        el("p", { class: "note" }, names(model.class_names, 12)),
        el("p", {}, el("a", { href: "#accuracy" }, "Look at its accuracy"), " · ", el("a", { href: "#store" }, "Compare or roll back")),
    ];
}

// The running job: built once a job, then only its figures change.
class Running {
    constructor() {
        this.node = el("div", {});
        this.job = null;
    }

    build(job) {
        this.job = job.id;
        this.state = job.state;
        this.share = el("p", { class: "big" });
        this.fill = el("div", {});
        this.bar = el("div", { class: "progress", role: "progressbar", "aria-label": `Progress of job ${job.id}`,
            "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
        this.steps = Object.fromEntries(Object.entries(PHASES).map(([phase, word]) => [phase, el("li", {}, word)]));
        this.facts = el("p", { class: "note" });
        swap(this.node, el("p", {}, `Job ${job.id} learns ${names(job.batches, 4)}`), this.share, this.bar,
            el("ol", { class: "phases" }, Object.values(this.steps)), this.facts,
            isAdmin() && job.state === "running" ? cancelButton(job) : null);
    }

    tell(job, live) {
        const now = live?.job === job.id ? live : job;
        this.share.textContent = percent(Math.floor(100 * now.progress) / 100, 0);
        this.fill.style.setProperty("width", `${100 * now.progress}%`);
        this.bar.setAttribute("aria-valuenow", Math.floor(100 * now.progress));
        const order = Object.keys(PHASES);
        for (const [phase, item] of Object.entries(this.steps)) {
            const at = order.indexOf(phase) - order.indexOf(now.phase);
            item.className = at === 0 ? "now" : at < 0 ? "done" : "";
            at === 0 ? item.setAttribute("aria-current", "step") : item.removeAttribute("aria-current");
        }
        const left = now.eta_seconds === null ? "time left not known yet" : `about ${duration(now.eta_seconds)} left`;
        this.facts.textContent = job.state === "cancelling" ? "It is being cancelled."
            : [left, now.images_per_second ? `${count(Math.round(now.images_per_second))} images/s` : null,
                job.restarts ? `interrupted ${plural(job.restarts, "time")}, went on` : null].filter(Boolean).join(" · ");
    }

    update(job, live) {
        if (!job) {
            this.job = null;
            swap(this.node, el("p", { class: "big" }, "Idle"), el("p", { class: "note" }, lastWords()),
                el("p", {}, el("a", { href: "#work" }, "Add classes or start a job")));
            return;
        }
        if (this.job !== job.id || this.state !== job.state)
            this.build(job);
        this.tell(job, live);
    }
}

function lastWords() {
    const job = state.jobs[0];
    if (!job)
        return "No job has run yet.";
    if (job.state === "succeeded")
        return job.published ? `Job ${job.id} succeeded as version ${job.version}.`
            : `Job ${job.id} made version ${job.version}, which does not serve. ${gateWords(job.gate) ?? ""} Compare it under ` +
                "Store, then activate or discard it.";
    return job.state === "failed" ? `Job ${job.id} failed: ${job.error.detail}` : `Job ${job.id} was cancelled.`;
}

export const cancelButton = (job) => actionButton("Cancel", async () => {
    await post(`jobs/${job.id}/cancel`);
    load("jobs");
}, { class: "quiet", "data-key": `cancel-${job.id}`, "aria-label": `Cancel job ${job.id}` });

function queue(jobs) {
    if (jobs.length === 0)
        return el("p", { class: "note" }, "Nothing waits.");
    return el("ol", { class: "plain" }, jobs.slice(0, 8).map((job) => el("li", { class: "row" },
        el("span", {}, `Job ${job.id}: ${names(job.batches, 3)}`), isAdmin() ? cancelButton(job) : null)),
    jobs.length > 8 ? el("li", { class: "note" }, `and ${plural(jobs.length - 8, "more job")}`) : null);
}

export function mountNow(view) {
    const model = el("div", {}), waiting = el("div", {}), keep = el("div", {});
    const running = new Running(), curves = new LossCurves();
    view.append(card("Serving", {}, model), card("Learning", {}, running.node, el("h3", {}, "Queue"), waiting),
        card("Kept", {}, keep), card("Curves", { wide: true }, curves.node));
    watch(view, ["models", "history"], () => state.history && swap(model, serving(activeModel(), state.history)));
    watch(view, ["jobs", "live", "session"], () => running.update(runningJob(), state.live));
    watch(view, ["jobs", "session"], () => swap(waiting, queue(queuedJobs())));
    watch(view, ["storage"], () => state.storage && swap(keep, keptFigures(state.storage),
        el("p", { class: "note" }, "Training images are deleted once they are learned. ", el("a", { href: "#store" }, "What is what"))));
    watch(view, ["curves"], () => curves.update(state.curves));
}
