// app.js - starts the page: its views, which one is shown, the line that says whether what it shows is live.

import { start } from "./data.js";
import { byId } from "./dom.js";
import { mountSession } from "./session.js";
import { shown, state, watch } from "./state.js";
import { nextTheme, startTheme } from "./theme.js";
import { mountAccuracy } from "./view_accuracy.js";
import { mountNow } from "./view_now.js";
import { mountStore } from "./view_store.js";
import { mountTry } from "./view_try.js";
import { mountWork } from "./view_work.js";

const VIEWS = { now: mountNow, accuracy: mountAccuracy, store: mountStore, work: mountWork, try: mountTry };
const LINKS = { connecting: "connecting …", live: "live", polling: "asks every 3 s", down: "no answer" };

const links = () => [...byId("tabs").querySelectorAll("a")];

// A view is built when it is shown first.
function show() {
    const wanted = location.hash.slice(1);
    const name = wanted in VIEWS ? wanted : "now";
    for (const link of links())
        link.hash === `#${name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    for (const other of Object.keys(VIEWS))
        byId(`view-${other}`).hidden = other !== name;
    const view = byId(`view-${name}`);
    if (view.childElementCount === 0)
        VIEWS[name](view);
    shown(view);
    document.title = `${links().find((link) => link.hash === `#${name}`).textContent} · accreted`;
}

function press(event) {
    const typing = event.target.closest("input, select, textarea, dialog");
    const link = links()[Number(event.key) - 1];
    if (link && !typing && !event.ctrlKey && !event.altKey && !event.metaKey)
        location.hash = link.hash;
}

function tellLink() {
    const line = byId("link");
    line.className = state.link;
    line.textContent = LINKS[state.link];
    byId("trouble").hidden = state.link !== "down";
}

// For tests/bench/bench_web.py and the tests of tests/web.
function tellReady() {
    document.documentElement.dataset.ready = state.ready;
    if (state.ready)
        performance.mark("ready");
}

startTheme();
mountSession();
byId("theme").addEventListener("click", nextTheme);
watch(null, ["theme"], () => { byId("theme").textContent = state.theme || "auto"; });
watch(null, ["link"], tellLink);
watch(null, ["ready"], tellReady);
addEventListener("hashchange", show);
addEventListener("keydown", press);
show();
start();
