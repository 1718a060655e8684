// dialog.js - questions and details on top of the page, by the browser's own <dialog>: Escape closes, focus comes back.

import { el } from "./dom.js";
import { actionButton, freshId } from "./parts.js";

// Opens and returns the dialog; it is gone once closed.
export function openDialog(title, body, buttons = []) {
    const id = freshId("dialog");
    const close = el("button", { type: "button", class: "quiet" }, buttons.length ? "Not now" : "Close");
    const dialog = el("dialog", { "aria-labelledby": id }, el("h2", { id }, title), el("div", { class: "dialog-body" }, body),
        el("div", { class: "actions" }, close, buttons));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

// Asks before something is done; `consequences` is a list of sentences that name what changes.
export function confirmAction(title, consequences, verb, action, { danger = false } = {}) {
    const button = actionButton(verb, async () => {
        await action();
        dialog.close();
    }, { class: danger ? "danger" : "primary" });
    const dialog = openDialog(title, el("ul", { class: "plain" }, consequences.map((text) => el("li", {}, text))), [button]);
    return dialog;
}
