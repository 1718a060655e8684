// parts.js - what every view is made of: cards, figures, tables with pages, notices.

import { ApiError } from "./api.js";
import { byId, el, swap } from "./dom.js";
import { count } from "./format.js";

let ids = 0;
export const freshId = (word) => `${word}-${++ids}`;

export function card(title, { wide = false, half = false, note = null, actions = [] } = {}, ...children) {
    const id = freshId("card");
    return el("section", { class: `card${wide ? " wide" : half ? " half" : ""}`, "aria-labelledby": id },
        el("div", { class: "card-head" }, el("h2", { id }, title), actions.length ? el("div", { class: "actions" }, actions) : null),
        note ? el("p", { class: "note" }, note) : null, children);
}

// List of [name, value, explanation]
export function figures(list) {
    return el("dl", { class: "figures" }, list.map(([name, value, why]) =>
        el("div", { title: why }, el("dt", {}, name), el("dd", {}, value))));
}

// What to say where there is nothing yet, and what to do next.
export function empty(text, ...next) {
    return el("div", { class: "empty" }, el("p", {}, text), next);
}

export function bar(share, label) {
    return el("span", { class: "bar", role: "img", "aria-label": label }, el("span", { style: { width: `${100 * share}%` } }));
}

// A table that shows a page of its rows. columns: { title, kind: "number" | "name" | "buttons" | "", cell(row), sort(row) };
// "buttons stay": in sight also where the table is wider than the screen.
export class PagedTable {
    constructor({ label, columns, size = 20, none = "Nothing yet.", more = null, order = null }) {
        Object.assign(this, { label, columns, size, none, more, order });
        this.rows = [];
        this.page = 0;
        this.key = freshId("table");
        this.node = el("div", { class: "paged" });
    }

    update(rows, none = this.none) {
        this.rows = rows;
        this.none = none;
        this.draw();
    }

    sorted() {
        if (!this.order)
            return this.rows;
        const { column, falling } = this.order;
        const value = this.columns[column].sort;
        const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
        return [...this.rows].sort((a, b) => (falling ? -1 : 1) * compare(value(a), value(b)));
    }

    head(column, i) {
        if (!column.sort)
            return el("th", { class: column.kind, scope: "col" }, column.title);
        const mine = this.order?.column === i;
        const direction = mine ? (this.order.falling ? "descending" : "ascending") : "none";
        const turn = () => {
            this.order = { column: i, falling: mine ? !this.order.falling : column.kind === "number" };
            this.page = 0;
            this.draw();
        };
        return el("th", { class: column.kind, scope: "col", "aria-sort": direction },
            el("button", { class: "sort", "data-key": `${this.key}-${i}`, onclick: turn }, column.title));
    }

    draw() {
        const pages = Math.max(1, Math.ceil(this.rows.length / this.size));
        this.page = Math.min(this.page, pages - 1);
        if (this.rows.length === 0) {
            swap(this.node, el("p", { class: "note" }, this.none));
            return;
        }
        const first = this.page * this.size;
        const rows = this.sorted().slice(first, first + this.size);
        const table = el("table", {}, el("caption", { class: "hidden" }, this.label),
            el("thead", {}, el("tr", {}, this.columns.map((c, i) => this.head(c, i)))),
            el("tbody", {}, rows.map((row) => el("tr", {}, this.columns.map((c) => el("td", { class: c.kind }, c.cell(row)))))));
        const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": this.label }, table);
        swap(this.node, scroll, pages > 1 || this.more?.() ? this.pager(pages, first) : null);
    }

    turn(page) {
        this.page = page;
        this.draw();
    }

    pager(pages, first) {
        const last = Math.min(first + this.size, this.rows.length);
        const step = (text, page, possible) => el("button", { class: "quiet", disabled: !possible,
            "data-key": `${this.key}-${text}`, onclick: () => this.turn(page) }, text);
        const more = this.more?.();
        return el("div", { class: "pager" }, step("Previous", this.page - 1, this.page > 0),
            el("span", { class: "note" }, `${count(first + 1)}–${count(last)} of ${count(this.rows.length)}`),
            step("Next", this.page + 1, this.page < pages - 1),
            more && this.page === pages - 1 ? el("button", { class: "quiet", onclick: more }, "Load older") : null);
    }
}

// A chart's numbers, drawn only while they are open.
export function tableBehind(label, columns) {
    const table = new PagedTable({ label, columns, size: 12 });
    const node = el("details", { class: "behind" }, el("summary", {}, "Show as a table"), table.node);
    let rows = [];
    node.addEventListener("toggle", () => node.open && table.update(rows));
    return { node, update(list) {
        rows = list;
        if (node.open)
            table.update(rows);
    } };
}

// ---- notices ----

export function notice(text, kind = "good") {
    const close = () => node.remove();
    const node = el("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" },
        el("p", {}, text), el("button", { class: "quiet", "aria-label": "Dismiss", onclick: close }, "×"));
    byId("notices").append(node);
    if (kind !== "bad")
        setTimeout(close, 8000);
}

const noticeRefusal = (error) => notice(error.message, "bad");

// Does it, and tells a refusal.
export async function attempt(action, refused = noticeRefusal) {
    try {
        await action();
    } catch (error) {
        if (!(error instanceof ApiError))
            throw error;
        refused(error);
    }
}

// A button that does something slow: it waits, and a refusal is shown, by `refused(error)` if it has a better place.
export function actionButton(text, action, attributes = {}, refused = noticeRefusal) {
    const button = el("button", { type: "button", ...attributes }, text);
    button.addEventListener("click", async () => {
        button.disabled = true;
        try {
            await attempt(action, refused);
        } finally {
            button.disabled = false;
        }
    });
    return button;
}
