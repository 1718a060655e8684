// classes.js - the classes of the version that serves: one is called otherwise, one is retired.

import { call, getTagged } from "./api.js";
import { load } from "./data.js";
import { askButton, confirmAction, openDialog } from "./dialog.js";
import { el } from "./dom.js";
import { count, names, plural } from "./format.js";
import { notice, PagedTable } from "./parts.js";
import { isAdmin, isFinal, state } from "./state.js";

const CHANGED = ["models", "history", "snapshots", "classes", "storage", "batches"];
const NAME_MOST = 64;

export function classList() {
    return new PagedTable({ label: "Classes", size: 10, none: "No class is known yet. Add classes above and learn them.", columns: [
        { title: "Class", kind: "name", cell: (c) => c.name, sort: (c) => c.name },
        { title: "Step", kind: "number", cell: (c) => c.step, sort: (c) => c.step },
        { title: "Test images", kind: "number", cell: (c) => count(c.test_images), sort: (c) => c.test_images },
        { title: "", kind: "buttons stay", cell: classButtons },
    ] });
}

function classButtons(c) {
    if (!isAdmin())
        return "";
    const button = (text, ask) => askButton(text, async () => ask(await getTagged(pathOf(c))),
        { "data-key": `${text}-${c.id}`, "aria-label": `${text} class ${c.name}` });
    return [button("Rename", askToRename), button("Retire", askToRetire)];
}

const pathOf = (c) => `classes/${encodeURIComponent(c.name)}`;

function openJobs() {
    const open = state.jobs.filter((job) => !isFinal(job));
    return open.length ? `First ${open.length === 1 ? `job ${open[0].id} has` : `${count(open.length)} jobs have`} to end or be ` +
        "cancelled: until then this is refused." : null;
}

function askToRename({ value: c, tag }) {
    const input = el("input", { id: "class-name", value: c.name, maxlength: NAME_MOST, required: true, autocomplete: "off",
        spellcheck: "false" });
    confirmAction(`Rename class ${c.name}`, [
        "Every version calls it by the new name, the earlier ones too: predictions, exports, history and batches.",
        `Programs that look for ${c.name} must look for the new name.`,
        "Nothing is trained; accuracy and test images stay.",
        openJobs(),
    ], "Rename", async () => {
        const renamed = await call("PATCH", pathOf(c), { json: { name: input.value }, match: tag });
        load(...CHANGED);
        notice(`${c.name} is called ${renamed.name} now.`);
    }, { field: el("label", { for: "class-name" }, "New name", input) });
    input.select();
}

function askToRetire({ value: c, tag }) {
    const waiting = state.batches.filter((b) => b.state !== "consumed" && b.classes.some((k) => k.name === c.name && k.train_images));
    confirmAction(`Retire class ${c.name}?`, [
        `No version predicts or exports ${c.name} any more, the earlier ones neither: rolling back does not bring it back.`,
        `Deleted with it: its prototype, ${plural(c.test_images, "test image")}, its exemplars and its measured accuracy.`,
        "The outputs behind it move up by one.",
        waiting.length ? `Its images in ${names(waiting.map((b) => b.name))} stay, and a job would learn them as a new class.` : null,
        "For good: only learning it anew brings it back.",
        openJobs(),
    ], `Retire ${c.name}`, async () => {
        const gone = await call("DELETE", pathOf(c), { match: tag });
        load(...CHANGED);
        return () => tellRetired(gone);
    }, { danger: true });
}

function tellRetired(gone) {
    const versions = gone.learned_by_versions;
    openDialog(`Class ${gone.name} is retired`, el("ul", { class: "plain" }, [
        `${plural(gone.test_images_deleted, "test image")} and ${plural(gone.exemplars_deleted, "exemplar")} are deleted.`,
        versions.length ? `Learned by ${versions.length === 1 ? "version" : "versions"} ${versions.join(", ")}.` : null,
        gone.remains,
        gone.waiting_batches.length ? `Still with images of it: ${names(gone.waiting_batches)}. Delete what should not be learned.` : null,
        gone.erased ? null : "Some file could not be changed now: see the daemon's log. Its next start goes on with it.",
    ].filter(Boolean).map((text) => el("li", {}, text))));
}
