// api.js - calls of the daemon's API. Each either answers, or throws an ApiError that says what to do next.

const TIMEOUT_MS = 30000;

export class ApiError extends Error {
    constructor(status, code, detail) {
        super(detail);
        this.status = status; // 0: no answer
        this.code = code;
    }
}

let onRefused = () => {};

// `listener` is told when the daemon wants a sign-in.
export function whenRefused(listener) {
    onRefused = listener;
}

const NO_ANSWER = "The daemon does not answer. Is it running? This page goes on asking.";

function failure(status, text) {
    let problem = {};
    try {
        problem = JSON.parse(text);
    } catch {
        problem = {};
    }
    if (status === 401)
        onRefused();
    return new ApiError(status, problem.code ?? "unknown",
        problem.detail ?? `The daemon answered ${status} without a reason; its log may have one.`);
}

async function ask(method, path, { json, body, type, match } = {}) {
    const headers = json !== undefined ? { "Content-Type": "application/json" } : type ? { "Content-Type": type } : {};
    if (match)
        headers["If-Match"] = match;
    let reply;
    try {
        reply = await fetch(`/api/v1/${path}`, { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS),
            body: json !== undefined ? JSON.stringify(json) : body });
    } catch {
        throw new ApiError(0, "no_answer", NO_ANSWER);
    }
    const text = await reply.text();
    if (!reply.ok)
        throw failure(reply.status, text);
    return { text, tag: reply.headers.get("ETag") };
}

// `match`: the ETag of what was seen; the call is refused (412) where that is another thing by now.
export async function call(method, path, options) {
    const { text } = await ask(method, path, options);
    return method === "GET" ? parseOnce(path, text) : JSON.parse(text);
}

// With its ETag, for a change that asks first: { value, tag }.
export async function getTagged(path) {
    const { text, tag } = await ask("GET", path);
    return { value: JSON.parse(text), tag };
}

// What has not changed is the same object again, so that nobody draws it anew.
const known = new Map();

function parseOnce(path, text) {
    if (known.get(path)?.text !== text)
        known.set(path, { text, value: JSON.parse(text) });
    return known.get(path).value;
}

export const get = (path) => call("GET", path);
export const post = (path, options) => call("POST", path, options);

// PUT with progress, which fetch does not tell: `sent` (bytes so far) is called along the way. Aborting `signal` ends it.
export function send(path, blob, sent, signal) {
    return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.open("PUT", `/api/v1/${path}`);
        request.setRequestHeader("Content-Type", "application/x-tar");
        request.upload.onprogress = (event) => sent(event.loaded);
        request.onload = () => {
            if (request.status >= 200 && request.status < 300)
                resolve(JSON.parse(request.responseText));
            else
                reject(failure(request.status, request.responseText));
        };
        request.onerror = () => reject(new ApiError(0, "no_answer", NO_ANSWER));
        request.onabort = () => reject(new ApiError(0, "stopped", "The upload was stopped; nothing of it was stored."));
        signal?.addEventListener("abort", () => request.abort());
        request.send(blob);
    });
}
