// plot.js - charts by Chart.js (Debian's libjs-chart.js), each with its numbers as a table behind it.
//
// Chart.js is most of the page's weight, so it comes when the first chart is drawn; it leaves a global, `Chart`.

import { el } from "./dom.js";
import { tableBehind } from "./parts.js";
import { colour, whenThemeChanges } from "./theme.js";

const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const COLOURS = ["series-1", "series-2", "series-3", "series-4"];
const MOST_DOTS = 60;

// percent: shares as such; words(value): a tick in words, else a number; whole: no fractions
function scale({ title, percent = false, words = percent ? (v) => `${Math.round(100 * v)} %` : undefined, whole = false, ...rest }) {
    const told = words ? { callback: words } : {};
    return {
        type: "linear",
        title: { display: true, text: title, color: colour("soft") },
        ticks: { color: colour("soft"), maxTicksLimit: 8, ...(whole ? { precision: 0 } : {}), ...told },
        grid: { color: colour("line"), drawBorder: false },
        ...rest,
    };
}

// A figure with a chart of { label, points: [{ x, y }], look } series. `tell(point, series)` words a point;
// `columns` make the table behind it.
export class Plot {
    constructor({ title, kind = "line", x, y, tell, columns, tall = false }) {
        Object.assign(this, { kind, x, y, tell });
        this.canvas = el("canvas", { role: "img", "aria-label": title });
        this.table = tableBehind(title, columns);
        this.node = el("figure", { class: "plot" }, el("figcaption", {}, title),
            el("div", { class: tall ? "canvas tall" : "canvas" }, this.canvas), this.table.node);
        this.series = [];
        whenThemeChanges(() => this.chart && this.draw());
    }

    // rows: of the table; summary: what the picture says, in words
    update({ series, rows, summary }) {
        this.series = series;
        this.canvas.setAttribute("aria-label", summary);
        this.table.update(rows);
        this.draw();
    }

    dataset({ label, points, look = {} }, i) {
        const { bars = false, dash = i % DASHES.length, tint = COLOURS[i % COLOURS.length], thin = false } = look;
        const line = colour(tint);
        return {
            label, data: points, type: bars ? "bar" : "line", borderColor: line, backgroundColor: line,
            borderWidth: bars ? 0 : thin ? 1.5 : 2, borderDash: DASHES[dash], order: bars ? 1 : 0,
            pointRadius: points.length > MOST_DOTS || thin ? 0 : 3, pointHitRadius: 8, clip: 8, spanGaps: false, tension: 0,
            maxBarThickness: 26,
        };
    }

    options() {
        return {
            animation: false, parsing: false, normalized: true, responsive: true, maintainAspectRatio: false,
            interaction: { mode: "nearest", axis: "x", intersect: false },
            scales: { x: scale(this.x), y: scale(this.y) },
            plugins: {
                legend: { position: "bottom", align: "start", display: this.series.length > 1,
                    labels: { color: colour("text"), boxWidth: 24, boxHeight: this.series.some((s) => s.look?.bars) ? 8 : 0, padding: 12 } },
                tooltip: { callbacks: { title: () => "", label: ({ raw, dataset }) => this.tell(raw, dataset.label) } },
            },
        };
    }

    async draw() {
        await import("./chart.min.js");
        const datasets = this.series.map((s, i) => this.dataset(s, i));
        if (!this.chart) {
            this.chart = new Chart(this.canvas, { type: this.kind, data: { datasets }, options: this.options() });
            return;
        }
        this.chart.data.datasets = datasets;
        this.chart.options = this.options();
        this.chart.update("none");
    }
}
