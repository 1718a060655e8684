// curves.js - a job's loss and accuracy by epoch: classification, multi-model and auxiliary distillation apart.

import { el } from "./dom.js";
import { NONE, percent, plural } from "./format.js";
import { Plot } from "./plot.js";

const LOSSES = [["Classification", "loss_class"], ["Multi-model distillation", "loss_mmd"],
    ["Auxiliary distillation", "loss_ad"]];
const loss = (value) => (value === null ? NONE : value.toPrecision(3));
const line = (epochs, key) => epochs.map((e) => ({ x: e.epoch + 1, y: e[key] }));

export class LossCurves {
    constructor() {
        const epoch = { title: "Epoch", cell: (e) => (e.pruned ? `${e.epoch + 1} (pruned copy)` : e.epoch + 1) };
        this.loss = new Plot({ title: "Loss, mean an image", x: { title: "Epoch", whole: true }, y: { title: "Loss", min: 0 },
            tell: (p, series) => `${series}, epoch ${p.x}: ${loss(p.y)}`,
            columns: [epoch, ...LOSSES.map(([title, key]) => ({ title, kind: "number", cell: (e) => loss(e[key]) }))] });
        this.accuracy = new Plot({ title: "Accuracy on the training images, new classes only", x: { title: "Epoch", whole: true },
            y: { title: "Accuracy", percent: true, min: 0, max: 1 },
            tell: (p) => `epoch ${p.x}: ${percent(p.y)}`,
            columns: [epoch, { title: "Accuracy", kind: "number", cell: (e) => percent(e.accuracy) },
                { title: "Learning rate", kind: "number", cell: (e) => loss(e.rate) },
                { title: "Seconds", kind: "number", cell: (e) => loss(e.seconds) }] });
        this.title = el("p", { class: "note" }, "The first job's curves will be here.");
        this.pair = el("div", { class: "pair", hidden: true }, this.loss.node, this.accuracy.node);
        this.node = el("div", {}, this.title, this.pair);
    }

    update({ job, epochs }) {
        this.pair.hidden = epochs.length === 0;
        if (job === null)
            return;
        const pruned = epochs.find((e) => e.pruned);
        this.title.textContent = epochs.length === 0 ? `Job ${job} has not finished an epoch yet.`
            : `Job ${job}, ${plural(epochs.at(-1).epoch + 1, "epoch")}` + (pruned ? `; from epoch ${pruned.epoch + 1} on the pruned copy` : "");
        if (epochs.length === 0)
            return;
        const last = epochs.at(-1);
        this.loss.update({
            series: LOSSES.map(([label, key]) => ({ label, points: line(epochs, key) })),
            rows: epochs,
            summary: `Loss after epoch ${last.epoch + 1}: ` +
                LOSSES.map(([label, key]) => `${label} ${loss(last[key])}`).join(", "),
        });
        this.accuracy.update({
            series: [{ label: "Accuracy", points: line(epochs, "accuracy") }], rows: epochs,
            summary: `Training accuracy after epoch ${last.epoch + 1}: ${percent(last.accuracy)}`,
        });
    }
}
