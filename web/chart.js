// chart.js - a line chart of shares (0..1 or null) by step, as SVG without a library.

const WIDTH = 460, HEIGHT = 220, LEFT = 44, RIGHT = 24, TOP = 24, BOTTOM = 30;
const MOST_LABELS = 12;

function svg(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes))
        element.setAttribute(name, value);
    if (text !== undefined)
        element.textContent = text;
    return element;
}

export function lineChart(shares) {
    const percent = (share) => `${Math.round(100 * share)}`;
    const x = (i) => LEFT + (shares.length > 1 ? (i / (shares.length - 1)) * (WIDTH - LEFT - RIGHT) : 0);
    const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
    const every = Math.ceil(shares.length / MOST_LABELS);
    const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img",
        "aria-label": `Accuracy by step, %: ${shares.map((s) => (s === null ? "none" : percent(s))).join(", ")}` });
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
        chart.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share), class: "grid" }),
            svg("text", { x: LEFT - 8, y: y(share) + 4, "text-anchor": "end" }, `${percent(share)} %`));
    }
    let run = []; // a step that was not measured breaks the line
    const draw = () => chart.append(svg("polyline", { points: run.join(" ") }));
    shares.forEach((share, i) => {
        if (i % every === 0)
            chart.append(svg("text", { x: x(i), y: HEIGHT - 8, "text-anchor": "middle" }, i + 1));
        if (share === null) {
            draw();
            run = [];
            return;
        }
        run.push(`${x(i)},${y(share)}`);
        chart.append(svg("circle", { cx: x(i), cy: y(share), r: 4 }));
        if (i % every === 0)
            chart.append(svg("text", { x: x(i), y: y(share) - 9, "text-anchor": "middle", class: "value" },
                (100 * share).toFixed(1)));
    });
    draw();
    return chart;
}
