// view_try.js - an image asked of the model that serves and of an older one, side by side.

import { call } from "./api.js";
import { Camera } from "./camera.js";
import { el, swap } from "./dom.js";
import { percent, plural } from "./format.js";
import { bar, card, empty, notice } from "./parts.js";
import { activeModel, state, watch } from "./state.js";

const SIDE = 240; // of the preview
const TOP = 5;

class Try {
    constructor(view) {
        this.image = null; // Blob
        this.canvas = el("canvas", { class: "preview", role: "img", "aria-label": "The image" });
        this.canvas.hidden = true;
        this.other = el("select", { id: "other-version", "aria-label": "The version on the right" });
        this.other.addEventListener("change", () => this.ask());
        this.left = el("div", {});
        this.right = el("div", {});
        this.where = el("div", {});
        this.camera = new Camera((blob) => this.take(blob));
        const answers = el("div", { class: "pair" },
            card("Serving now", {}, this.left), card("Another version", { actions: [this.other] }, this.right));
        view.append(card("An image", {}, this.where, this.canvas, this.camera.node), el("div", { class: "answers" }, answers));
        this.drawZone();
        watch(view, ["models"], () => this.drawVersions());
    }

    drawZone() {
        const input = el("input", { type: "file", accept: "image/jpeg,image/png", class: "hidden", id: "try-input", "aria-label": "An image to classify" });
        input.addEventListener("change", () => input.files[0] && this.take(input.files[0]));
        const zone = el("div", { class: "drop" }, el("p", {}, "Drop an image here."), el("div", { class: "actions" },
            el("button", { type: "button", class: "primary", onclick: () => input.click() }, "Choose an image …"), this.camera.button), input);
        zone.addEventListener("dragover", (event) => {
            event.preventDefault();
            zone.classList.add("over");
        });
        zone.addEventListener("dragleave", () => zone.classList.remove("over"));
        zone.addEventListener("drop", (event) => {
            event.preventDefault();
            zone.classList.remove("over");
            if (event.dataTransfer.files[0])
                this.take(event.dataTransfer.files[0]);
        });
        swap(this.where, zone);
    }

    drawVersions() {
        const active = activeModel();
        const kept = Number(this.other.value) || active?.parent;
        const others = state.models.filter((m) => !m.active);
        this.other.hidden = others.length === 0;
        swap(this.other, others.map((m) => el("option", { value: m.version, selected: m.version === kept },
            `Version ${m.version}, ${plural(m.classes, "class", "classes")}`)));
        this.ask();
    }

    async take(blob) {
        try {
            await this.preview(blob);
        } catch {
            notice("The browser cannot read this as an image. Try a JPEG or PNG.", "bad");
            return;
        }
        this.image = blob;
        this.ask();
    }

    async preview(blob) {
        const picture = await createImageBitmap(blob);
        const scale = SIDE / Math.max(picture.width, picture.height);
        this.canvas.width = Math.max(1, Math.round(picture.width * scale));
        this.canvas.height = Math.max(1, Math.round(picture.height * scale));
        const context = this.canvas.getContext("2d");
        context.imageSmoothingEnabled = scale < 1; // a small image shows its pixels
        context.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
        this.canvas.hidden = false;
    }

    async ask() {
        const active = activeModel();
        const other = state.models.find((m) => m.version === Number(this.other.value));
        if (!active) {
            swap(this.left, empty("No model yet. Learn some classes first."));
            swap(this.right);
            return;
        }
        if (!this.image) {
            swap(this.left, el("p", { class: "note" }, `Version ${active.version} answers here.`));
            swap(this.right, el("p", { class: "note" }, other ? `Version ${other.version} answers here.` : "There is no other version yet."));
            return;
        }
        const [now, then] = await Promise.all([this.predict(active.version), other ? this.predict(other.version) : null]);
        swap(this.left, answer(active, now, then));
        swap(this.right, other ? answer(other, then, now) : el("p", { class: "note" }, "There is no other version yet."));
    }

    async predict(version) {
        try {
            return await call("POST", `predict?top=${TOP}&model=${version}`, { body: this.image, type: "application/octet-stream" });
        } catch (error) {
            return { error };
        }
    }
}

function answer(model, result, beside) {
    if (result.error)
        return el("p", { class: "bad-text", role: "alert" }, result.error.message);
    const [first, second] = result.predictions;
    const agree = beside && !beside.error ? beside.predictions[0].class === first.class : null;
    return [
        el("p", { class: "big" }, first.class),
        el("p", {}, `${percent(first.score)}${second ? `, ${(100 * (first.score - second.score)).toFixed(1)} points ahead of ${second.class}` : ""}`),
        el("table", { class: "scores" }, el("caption", { class: "hidden" }, `Top ${TOP} of version ${model.version}`),
            el("tbody", {}, result.predictions.map((p) => el("tr", {}, el("th", { scope: "row", class: "name" }, p.class),
                el("td", { class: "number" }, el("span", { class: "meter" }, percent(p.score), bar(p.score, ""))))))),
        el("p", { class: "note" }, `Version ${model.version}, ${plural(model.classes, "class", "classes")}, ${result.milliseconds.toFixed(1)} ms` +
            (agree === null ? "" : agree ? "; both agree" : "; the two differ")),
    ];
}

export const mountTry = (view) => new Try(view);
