// dialog.js - questions and details on top of the page, by the browser's own <dialog>: Escape closes, focus comes back.

import { el } from "./dom.js";
import { actionButton, attempt, freshId, notice } from "./parts.js";

// What to do here about a refusal, where its detail speaks to programs.
const NEXT = {
    jobs_open: "Jobs are cancelled under Data & jobs. Then confirm again.",
    batch_in_use: "Jobs are cancelled under Data & jobs. Then confirm again.",
    precondition_failed: "Close this and open it again.",
    class_not_found: "Close this and look at the list again.",
    batch_not_found: "Close this and look at the list again.",
};

// The browser gives the focus back to what had it; where that was drawn anew meanwhile, to what has its data-key now.
function giveFocusBack(key) {
    if (key !== undefined && document.activeElement === document.body)
        [...document.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key)?.focus();
}

// Opens and returns the dialog; it is gone once closed.
export function openDialog(title, body, buttons = []) {
    const id = freshId("dialog"), key = document.activeElement?.dataset.key;
    const close = el("button", { type: "button", class: "quiet" }, buttons.length ? "Not now" : "Close");
    const dialog = el("dialog", { "aria-labelledby": id }, el("h2", { id }, title), el("div", { class: "dialog-body" }, body),
        el("div", { class: "actions" }, close, buttons));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
        dialog.remove();
        giveFocusBack(key);
    });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

// Asks before something is done; `consequences` is a list of sentences (or null) that name what changes, `field` what must be
// filled in (Enter confirms). A refusal is shown in the dialog, which stays open; what `action` returns is called once it is
// closed.
export function confirmAction(title, consequences, verb, action, { danger = false, field = null } = {}) {
    const refusal = el("p", { class: "bad-text", role: "alert" });
    const button = actionButton(verb, async () => {
        refusal.textContent = "";
        if (!form.reportValidity())
            return;
        const after = await action();
        dialog.close();
        after?.();
    }, { class: danger ? "danger" : "primary" }, (error) => {
        const text = [error.message, NEXT[error.code]].filter(Boolean).join(" ");
        dialog.open ? refusal.textContent = text : notice(text, "bad"); // closed meanwhile by Escape
    });
    const form = el("form", { onsubmit: (event) => {
        event.preventDefault();
        button.click();
    } }, field, el("ul", { class: "plain" }, consequences.filter(Boolean).map((text) => el("li", {}, text))), refusal);
    const dialog = openDialog(title, form, [button]);
    return dialog;
}

// A button that reads what it asks about first, so that the question is about what is there now. It stays enabled, for the
// focus to come back to it.
export function askButton(text, ask, attributes = {}) {
    let asking = false;
    const button = el("button", { type: "button", class: "quiet", ...attributes }, text);
    button.addEventListener("click", async () => {
        if (asking)
            return;
        asking = true;
        try {
            await attempt(ask);
        } finally {
            asking = false;
        }
    });
    return button;
}
