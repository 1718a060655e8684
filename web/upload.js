// upload.js - adds classes: a folder or images are dropped, named, sent with progress for each file, and judged.

import { send } from "./api.js";
import { load } from "./data.js";
import { el, swap } from "./dom.js";
import { fromDrop, fromInput } from "./files.js";
import { bytes, count, names, percent, plural, sum } from "./format.js";
import { actionButton, notice, PagedTable } from "./parts.js";
import { isAdmin, state, watch } from "./state.js";
import { makeTar } from "./tar.js";

const HOLDOUTS = [0, 0.1, 0.2, 0.3];

function freshName() {
    const time = new Date().toISOString().slice(0, 16).replace(/[T:]/g, "-");
    return `batch-${time}`;
}

export class Upload {
    // onStored(batch): it is ready to be learned
    constructor(onStored) {
        this.onStored = onStored;
        this.node = el("div", {});
        this.images = [];
        watch(null, ["session"], () => this.images.length === 0 && this.ask());
    }

    // ---- 1: choose ----

    ask() {
        this.images = [];
        if (!isAdmin()) {
            swap(this.node, el("p", { class: "note" }, "Read only: adding classes needs a token of scope admin."));
            return;
        }
        const folder = el("input", { type: "file", webkitdirectory: true, multiple: true, class: "hidden", id: "folder-input",
            "aria-label": "A folder with a folder of images for each class" });
        const some = el("input", { type: "file", accept: "image/jpeg,image/png", multiple: true, class: "hidden", id: "images-input",
            "aria-label": "Images of one class" });
        for (const input of [folder, some])
            input.addEventListener("change", () => this.take(fromInput(input)));
        const zone = el("div", { class: "drop" },
            el("p", {}, "Drop a folder here, with a folder of images for each class: ", el("code", {}, "photos/cat/1.jpg"),
                ". Or images of one class."),
            el("div", { class: "actions" },
                el("button", { type: "button", class: "primary", "data-key": "folder", onclick: () => folder.click() }, "Choose a folder …"),
                el("button", { type: "button", "data-key": "images", onclick: () => some.click() }, "Choose images …")), folder, some);
        zone.addEventListener("dragover", (event) => {
            event.preventDefault();
            zone.classList.add("over");
        });
        zone.addEventListener("dragleave", () => zone.classList.remove("over"));
        zone.addEventListener("drop", async (event) => {
            event.preventDefault();
            zone.classList.remove("over");
            this.take(await fromDrop(event.dataTransfer));
        });
        swap(this.node, zone, el("p", { class: "note" }, "JPEG or PNG. Fifty images a class are little, some hundreds are good."));
    }

    take({ images, left }) {
        if (left > 0)
            notice(`${plural(left, "file")} left out: only .jpg, .jpeg and .png are taken.`, "neutral");
        if (images.length === 0) {
            notice("There is no JPEG or PNG in it. Choose a folder that has a folder of images for each class.", "bad");
            return;
        }
        this.images = images;
        this.review();
    }

    // ---- 2: name ----

    classes() {
        const map = new Map();
        for (const image of this.images) {
            if (!map.has(image.folder))
                map.set(image.folder, []);
            map.get(image.folder).push(image);
        }
        return [...map];
    }

    classTable() {
        const known = new Set(state.classes.map((c) => c.name));
        const table = new PagedTable({ label: "Classes to add", size: 10, columns: [
            { title: "Class", kind: "name", cell: ([folder, images]) => {
                const input = el("input", { type: "text", value: folder, placeholder: "name of the class", "aria-label": `Name of the class, ${folder}` });
                input.addEventListener("change", () => images.forEach((image) => { image.label = input.value.trim(); }));
                return input;
            } },
            { title: "Images", kind: "number", cell: ([, images]) => count(images.length) },
            { title: "Size", kind: "number", cell: ([, images]) => bytes(sum(images, (i) => i.file.size)) },
            { title: "", cell: ([folder]) => (known.has(folder) ? "known: more images of it" : "") },
            { title: "", kind: "buttons", cell: ([folder]) => el("button", { type: "button", class: "quiet", "aria-label": `Leave out ${folder}`,
                onclick: () => this.leaveOut(folder) }, "Leave out") }] });
        table.update(this.classes());
        return table.node;
    }

    leaveOut(folder) {
        this.images = this.images.filter((image) => image.folder !== folder);
        this.images.length ? this.review() : this.ask();
    }

    review() {
        this.name = el("input", { type: "text", value: freshName(), pattern: "[A-Za-z0-9._\\-]{1,100}", id: "batch-name" });
        this.holdout = el("select", { id: "holdout" }, HOLDOUTS.map((share) =>
            el("option", { value: share, selected: share === 0.1 }, share ? percent(share, 0) : "none")));
        swap(this.node, this.classTable(),
            el("div", { class: "fields" }, el("label", { for: "batch-name" }, "Name of the batch", this.name),
                el("label", { for: "holdout" }, "Keep aside for measuring", this.holdout)),
            el("p", { class: "note" }, "What is kept aside never trains and stays; without it the classes' accuracy cannot be told later."),
            el("div", { class: "actions" }, actionButton("Upload", () => this.run(), { class: "primary", "data-key": "upload" }),
                actionButton("Check only", () => this.run(true), { "data-key": "check" }),
                el("button", { type: "button", class: "quiet", onclick: () => this.ask() }, "Start over")));
    }

    // ---- 3: send ----

    check() {
        const label = (image) => image.label ?? image.folder;
        if (this.images.some((image) => !label(image)))
            return "Give every class a name.";
        return this.name.reportValidity() ? null : "The batch's name has letters, digits, dots and dashes only.";
    }

    // dry: the daemon judges every file and keeps nothing
    async run(dry = false) {
        const wrong = this.check();
        if (wrong) {
            notice(wrong, "bad");
            return;
        }
        const files = this.images.map((image) => ({ ...image, folder: image.label ?? image.folder }));
        const { blob, ends } = makeTar(files);
        const path = `batches/${encodeURIComponent(this.name.value)}?holdout=${this.holdout.value}${dry ? "&dry_run=1" : ""}`;
        const stop = new AbortController();
        this.showProgress(files, ends, blob.size, stop);
        try {
            const batch = await send(path, blob, (bytesSent) => this.tellSent(bytesSent), stop.signal);
            this.judge(batch);
        } catch (error) {
            this.review();
            throw error;
        } finally {
            load("batches");
        }
    }

    showProgress(files, ends, total, stop) {
        Object.assign(this, { files, ends, total, sent: 0, verdicts: null });
        this.fill = el("div", {});
        this.words = el("p", { class: "note", role: "status" });
        this.table = new PagedTable({ label: "Files", size: 10, columns: [
            { title: "File", kind: "name", cell: ({ file }) => `${file.folder}/${file.name}` },
            { title: "Size", kind: "number", cell: ({ file }) => bytes(file.file.size) },
            { title: "", cell: ({ i }) => this.fileWords(i) }] });
        this.stop = el("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Stop");
        swap(this.node, el("div", { class: "progress", role: "progressbar", "aria-label": "Upload" }, this.fill), this.words, this.table.node,
            el("div", { class: "actions" }, this.stop));
        this.table.update(files.map((file, i) => ({ file, i })));
        this.tellSent(0);
    }

    fileWords(i) {
        const verdict = this.verdicts?.get(`${this.files[i].folder}/${this.files[i].name}`);
        if (verdict)
            return el("span", { class: verdict.verdict === "rejected" ? "bad-text" : "note" },
                `${verdict.verdict}${verdict.reason ? `: ${verdict.reason}` : ""}`);
        if (this.verdicts)
            return "accepted";
        const start = i ? this.ends[i - 1] : 0;
        const share = Math.min(1, Math.max(0, (this.sent - start) / (this.ends[i] - start)));
        return share === 1 ? "sent" : share === 0 ? "waits" : percent(share, 0);
    }

    tellSent(bytesSent) {
        this.sent = bytesSent;
        this.fill.style.setProperty("width", `${(100 * bytesSent) / this.total}%`);
        const done = this.ends.filter((end) => end <= bytesSent).length;
        this.words.textContent = done === this.files.length ? "All is sent; the daemon looks at the images …"
            : `${count(done)} of ${plural(this.files.length, "file")}, ${bytes(bytesSent)} of ${bytes(this.total)}`;
        this.table.draw();
    }

    // ---- 4: verdicts ----

    verdictWords(batch, verb) {
        return [el("p", { class: "big", role: "status" }, `${count(batch.accepted)} ${verb}`),
            el("p", {}, `${count(batch.rejected)} rejected, ${plural(batch.duplicates, "duplicate")}; ${count(batch.train_images)} to ` +
                `train on, ${count(batch.test_images)} to measure on: ${names(batch.classes.map((c) => c.name))}`),
            el("ul", { class: "plain" }, batch.warnings.map((w) => el("li", { class: "warn-text" }, w.detail)))];
    }

    judge(batch) {
        const clean = (path) => path.replace(/^\.\//, "");
        this.verdicts = new Map(batch.verdicts.map((v) => [clean(v.file), v]));
        const rank = ({ file }) => (this.verdicts.has(`${file.folder}/${file.name}`) ? 0 : 1);
        this.table.update([...this.table.rows].sort((a, b) => rank(a) - rank(b)));
        const again = el("button", { type: "button", class: "quiet", onclick: () => this.ask() }, "Add more");
        const back = el("button", { type: "button", class: "primary", onclick: () => this.review() }, "Back to the upload");
        if (batch.state === "not_stored") {
            swap(this.node, ...this.verdictWords(batch, "would be accepted; nothing was stored"),
                el("div", { class: "actions" }, back, again), this.table.node);
            back.focus();
            return;
        }
        const learn = el("button", { type: "button", class: "primary", onclick: () => {
            this.ask();
            this.onStored(batch);
        } }, "Learn it now …");
        swap(this.node, ...this.verdictWords(batch, "accepted"), el("div", { class: "actions" }, batch.state === "ready" && batch.train_images ? learn : null, again), this.table.node);
        learn.focus();
        this.images = [];
    }
}
