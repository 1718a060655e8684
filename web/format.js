// format.js - numbers and times as people read them; null is "not measured".

export const NONE = "–";
export const percent = (share, digits = 1) =>
    (share === null || share === undefined ? NONE : `${(100 * share).toFixed(digits)} %`);
export const points = (share) => (share === null || share === undefined ? NONE : (100 * share).toFixed(1));
export const signed = (share) =>
    (share === null || share === undefined ? NONE : `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`);
export const count = (n) => n.toLocaleString("en");
export const plural = (n, word, words = `${word}s`) => `${count(n)} ${n === 1 ? word : words}`;
export const sum = (list, value) => list.reduce((total, o) => total + value(o), 0);

export function bytes(n) {
    const units = ["bytes", "kB", "MB", "GB", "TB"];
    let i = 0;
    for (; n >= 1000 && i < units.length - 1; i++)
        n /= 1000;
    return i === 0 && n === 1 ? "1 byte" : `${n.toFixed(i ? 1 : 0)} ${units[i]}`;
}

export function duration(seconds) {
    if (seconds < 90)
        return `${Math.max(0, Math.round(seconds))} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function clock(text) {
    if (!text)
        return NONE;
    const time = new Date(text);
    const today = time.toDateString() === new Date().toDateString();
    return time.toLocaleString("en-GB", today ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
        : { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

// The first few names of many: "cat, dog and 3 more".
export function names(list, most = 8) {
    const shown = list.slice(0, most).join(", ");
    return list.length > most ? `${shown} and ${count(list.length - most)} more` : shown;
}
