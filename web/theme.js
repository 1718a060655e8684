// theme.js - light, dark or as the system has it; colours of the style sheet for what is drawn on a canvas.

import { state, update } from "./state.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = [];
const NEXT = { "": "light", light: "dark", dark: "" };

export const isDark = () => (state.theme ? state.theme === "dark" : system.matches);

// Calls `redraw` whenever the colours change.
export function whenThemeChanges(redraw) {
    listeners.push(redraw);
}

// The colour a custom property stands for now.
const probe = document.createElement("span");

export function colour(name) {
    if (!probe.isConnected) {
        probe.hidden = true;
        document.body.append(probe);
    }
    probe.style.setProperty("color", `var(--${name})`);
    return getComputedStyle(probe).color;
}

function apply(theme) {
    if (theme)
        document.documentElement.dataset.theme = theme;
    else
        delete document.documentElement.dataset.theme;
    update({ theme });
    listeners.forEach((redraw) => redraw());
}

export function nextTheme() {
    const theme = NEXT[state.theme];
    localStorage.setItem("theme", theme);
    apply(theme);
}

export function startTheme() {
    system.addEventListener("change", () => apply(state.theme));
    const kept = localStorage.getItem("theme");
    apply(kept in NEXT ? kept : "");
}
