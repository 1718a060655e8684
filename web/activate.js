// activate.js - another version serves: back a step, or on to one that was kept back. And a version is discarded.

import { call, post } from "./api.js";
import { load } from "./data.js";
import { confirmAction } from "./dialog.js";
import { bytes, names, percent, plural, points } from "./format.js";
import { notice } from "./parts.js";
import { activeModel, runningJob, state } from "./state.js";

const CHANGED = ["models", "history", "snapshots", "classes", "storage", "batches", "jobs"];

export const activateWord = (model) => (model.version < activeModel().version ? "Roll back" : "Activate");

function classesLost(model, active) {
    const gone = active.class_names.filter((name) => !model.class_names.includes(name));
    const back = model.class_names.filter((name) => !active.class_names.includes(name));
    return [gone.length ? `It does not know ${names(gone)}: ${gone.length === 1 ? "that is" : "those are"} never predicted any more.`
        : "It knows every class that is served now.",
    back.length ? `It knows ${names(back)}, which version ${active.version} does not.` : null];
}

function consequences(model) {
    const active = activeModel(), job = runningJob();
    const rebuilt = model.weights === "snapshot" ? ", rebuilt from its snapshot" : "";
    return [
        `Version ${model.version}${rebuilt}, answers predictions instead of version ${active.version}; no request fails meanwhile.`,
        ...classesLost(model, active),
        `Its accuracy, measured when it was made: ${percent(model.serving_accuracy)}. ` +
            `Of the one that serves: ${percent(active.serving_accuracy)}.`,
        `Jobs that start from now on build on version ${model.version}.`,
        job ? `Job ${job.id} goes on, but what it makes will not take over.` : null,
        model.published ? null : "The training images it learned from are deleted, as after every publication.",
        `Version ${active.version} is kept and can be activated again.`,
    ];
}

export function askToActivate(model) {
    const word = activateWord(model);
    confirmAction(`${word}${word === "Roll back" ? " to" : ""} version ${model.version}?`, consequences(model),
        `${word}${word === "Roll back" ? " to" : ""} version ${model.version}`, async () => {
            await post(`models/${model.version}/activate`);
            load(...CHANGED);
            notice(`Version ${model.version} serves.`);
        });
}

export const canDiscard = (model) => !model.active && model.children === 0;

export function askToDiscard(model) {
    const snapshot = state.snapshots.find((s) => s.version === model.version);
    confirmAction(`Discard version ${model.version}?`, [
        `Its files go: ${bytes(model.model_bytes + (snapshot?.bytes ?? 0))}. It cannot be activated, compared or exported again.`,
        "Its job, its curves and the test images stay.",
    ], `Discard version ${model.version}`, async () => {
        const gone = await call("DELETE", `models/${model.version}`);
        load(...CHANGED);
        notice(`Version ${gone.version} is gone; ${bytes(gone.freed_bytes)} are free.`);
    }, { danger: true });
}

// What the publication gate said, in a sentence; null where there is nothing to say.
export function gateWords(gate) {
    if (!gate)
        return null;
    const measured = `The earlier steps lost ${points(gate.drop)} points, surely ${points(gate.drop_at_least)}; ` +
        `the limit is ${points(gate.limit)}.`;
    return {
        held_back: `Held back: ${measured}`, passed: `Passed the gate. ${measured}`, off: "The gate was off.",
        not_measured: `Not judged: a step of ${plural(gate.steps.length, "earlier step")} has no test images.`, first_step: null,
    }[gate.verdict];
}
