// heatmap.js - a matrix of shares as a heat map on a canvas: with the mouse, or focused with the arrow keys, a cell says what it
// is in the line below it.

import { el } from "./dom.js";
import { ramp } from "./ramp.js";
import { colour, isDark, whenThemeChanges } from "./theme.js";

const MAX_CELL = 56, MIN_CELL = 5, NUMBERS_FROM = 30, LABELS_FROM = 13, GAP_FROM = 9, TOP = 22;
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class HeatMap {
    // describe(row, column): the words of a cell; pick(row, column): Enter or a click, if given
    constructor({ label, describe, pick = null }) {
        Object.assign(this, { describe, pick });
        this.canvas = el("canvas", { class: "heat", tabindex: "0", role: "img", "aria-label": label });
        this.readout = el("output", { class: "note readout" });
        this.frame = el("div", { class: "scroll heat-frame" }, this.canvas);
        this.node = el("div", {}, this.frame, this.readout, legend());
        this.grid = { rows: [], columns: [], value: () => undefined };
        this.cursor = null;
        new ResizeObserver(() => this.draw()).observe(this.node);
        whenThemeChanges(() => this.draw());
        this.canvas.addEventListener("pointermove", (event) => this.move(this.cellAt(event)));
        this.canvas.addEventListener("pointerleave", () => this.move(null));
        this.canvas.addEventListener("keydown", (event) => this.press(event));
        this.canvas.addEventListener("click", (event) => this.choose(this.cellAt(event)));
    }

    // rows, columns: names; value(r, c): share, null (not measured) or undefined (no cell); text(share): on the cell
    update(grid) {
        this.grid = grid;
        this.cursor = null;
        this.draw();
    }

    cellAt({ offsetX, offsetY }) {
        const r = Math.floor((offsetY - TOP) / this.cell), c = Math.floor((offsetX - this.left) / this.cell);
        return this.grid.value(r, c) === undefined ? null : [r, c];
    }

    press(event) {
        const step = MOVES[event.key];
        if (event.key === "Enter")
            this.choose(this.cursor);
        if (!step)
            return;
        event.preventDefault();
        const [r, c] = this.cursor ?? [this.grid.rows.length - 1, -1];
        const next = this.cursor ? [r + step[0], c + step[1]] : [r, 0];
        if (this.grid.value(...next) !== undefined)
            this.move(next);
    }

    choose(cell) {
        if (cell && this.pick)
            this.pick(...cell);
    }

    move(cell) {
        if (String(cell) === String(this.cursor))
            return;
        this.cursor = cell;
        this.readout.textContent = cell ? this.describe(...cell) : "";
        this.draw();
    }

    layout(context) {
        const { rows, columns } = this.grid;
        context.font = "12px system-ui, sans-serif";
        const widest = Math.max(0, ...rows.map((name) => context.measureText(name).width));
        this.left = Math.min(Math.ceil(widest) + 10, 130);
        const room = this.node.clientWidth - this.left - 2;
        this.cell = Math.max(MIN_CELL, Math.min(MAX_CELL, Math.floor(room / Math.max(1, columns.length))));
        return [this.left + this.cell * columns.length + 2, TOP + this.cell * rows.length + 2];
    }

    draw() {
        const context = this.canvas.getContext("2d");
        if (this.node.clientWidth === 0 || this.grid.rows.length === 0)
            return;
        const [width, height] = this.layout(context);
        const scale = devicePixelRatio || 1;
        this.canvas.width = Math.round(width * scale);
        this.canvas.height = Math.round(height * scale);
        this.canvas.style.setProperty("width", `${width}px`);
        this.canvas.style.setProperty("height", `${height}px`);
        context.scale(scale, scale);
        this.drawNames(context);
        this.grid.rows.forEach((_, r) => this.grid.columns.forEach((_, c) => this.drawCell(context, r, c)));
        if (this.cursor)
            this.drawCursor(context, ...this.cursor);
    }

    drawNames(context) {
        const every = Math.ceil(LABELS_FROM / this.cell);
        const { rows, columns } = this.grid;
        context.font = "12px system-ui, sans-serif";
        context.fillStyle = colour("soft");
        context.textBaseline = "middle";
        context.textAlign = "right";
        rows.forEach((name, r) => r % every === 0 &&
            context.fillText(fit(context, name, this.left - 8), this.left - 7, TOP + (r + 0.5) * this.cell));
        context.textAlign = "center";
        const widest = Math.max(...columns.map((name) => context.measureText(name).width));
        const across = Math.ceil(Math.min(widest + 8, this.cell >= NUMBERS_FROM ? this.cell : 72) / this.cell);
        columns.forEach((name, c) => c % across === 0 &&
            context.fillText(fit(context, name, across * this.cell), this.left + (c + 0.5) * this.cell, TOP - 10));
    }

    drawCell(context, r, c) {
        const share = this.grid.value(r, c);
        if (share === undefined)
            return;
        const gap = this.cell >= GAP_FROM ? 1 : 0;
        const x = this.left + c * this.cell, y = TOP + r * this.cell;
        const { fill, ink } = share === null ? { fill: colour("line"), ink: colour("soft") } : ramp(share, isDark());
        context.fillStyle = fill;
        context.fillRect(x + gap, y + gap, this.cell - gap, this.cell - gap);
        if (this.cell < NUMBERS_FROM)
            return;
        context.fillStyle = ink;
        context.textAlign = "center";
        context.fillText(share === null ? "–" : this.grid.text(share), x + (this.cell + gap) / 2, y + (this.cell + gap) / 2);
    }

    drawCursor(context, r, c) {
        context.strokeStyle = colour("text");
        context.lineWidth = 2;
        context.strokeRect(this.left + c * this.cell, TOP + r * this.cell, this.cell + 1, this.cell + 1);
    }
}

function fit(context, text, width) {
    if (context.measureText(text).width <= width)
        return text;
    let n = text.length;
    while (n > 1 && context.measureText(`${text.slice(0, n)}…`).width > width)
        n--;
    return `${text.slice(0, n)}…`;
}

function legend() {
    const strip = el("canvas", { class: "ramp", width: "120", height: "10", "aria-hidden": "true" });
    const paint = () => {
        const context = strip.getContext("2d");
        for (let x = 0; x < 120; x++) {
            context.fillStyle = ramp(x / 119, isDark()).fill;
            context.fillRect(x, 0, 1, 10);
        }
    };
    paint();
    whenThemeChanges(paint);
    return el("div", { class: "note legend" }, "0 %", strip, "100 %");
}
