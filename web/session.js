// session.js - signing in with a token. The token goes to the daemon once; what the browser keeps is a cookie no script sees.

import { call } from "./api.js";
import { startOver } from "./data.js";
import { byId, el, swap } from "./dom.js";
import { actionButton } from "./parts.js";
import { isSignedOut, state, watch } from "./state.js";

function signInForm() {
    const token = el("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: "false" });
    const problem = el("p", { class: "bad-text", role: "alert" });
    const form = el("form", {}, el("label", { for: "token" }, "Token", token), problem,
        el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Sign in")));
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        problem.textContent = "";
        try {
            await call("POST", "session", { json: { token: token.value.trim() } });
            token.value = "";
            await startOver();
        } catch (error) {
            problem.textContent = error.message;
        }
    });
    return [el("h2", {}, "Sign in"), el("p", {}, "This daemon wants a token. Whoever runs it makes one with ",
        el("code", {}, "accreted token create"), "."), form];
}

function badge(session) {
    if (!session?.required || session.scope === null)
        return [];
    return [el("span", { class: "note" }, session.scope === "admin" ? "admin" : "read only"),
        actionButton("Sign out", async () => {
            await call("DELETE", "session");
            location.reload();
        }, { class: "quiet" })];
}

export function mountSession() {
    watch(null, ["session"], () => {
        const out = isSignedOut();
        byId("views").hidden = out;
        byId("tabs").hidden = out;
        byId("sign-in").hidden = !out;
        swap(byId("sign-in"), out ? signInForm() : null);
        swap(byId("session"), badge(state.session));
    });
}
