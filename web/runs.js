// runs.js - accuracy against classes seen: of the chain that serves, of branches that were left by a roll-back, and of another
// run read from a file. Pure functions.

// The chain of parents that ends in `model`, oldest first.
function chain(model, byVersion) {
    const list = [];
    for (let m = model; m; m = byVersion.get(m.parent))
        list.unshift(m);
    return list;
}

// Chains other than that of the active version, by the version they end in; not those in whose place another version stands.
export function earlierRuns(models) {
    const byVersion = new Map(models.map((m) => [m.version, m]));
    const goneOn = new Set(models.flatMap((m) => [m.parent, m.refines]));
    return models.filter((m) => !m.active && !goneOn.has(m.version))
        .map((leaf) => ({ label: `Up to version ${leaf.version}`, points: curve(chain(leaf, byVersion)) }));
}

export function servingRun(models) {
    const active = models.find((m) => m.active);
    return active ? chain(active, new Map(models.map((m) => [m.version, m]))) : [];
}

// [{ x: classes seen, y: accuracy or null }]
export const curve = (list) => list.map((m) => ({ x: m.classes, y: m.serving_accuracy }));

// Mean of the accuracy so far; null from the first step that was not measured on.
export function averages(list) {
    let total = 0;
    return list.map((m, i) => {
        total = m.serving_accuracy === null ? NaN : total + m.serving_accuracy;
        return { x: m.classes, y: Number.isNaN(total) ? null : total / (i + 1) };
    });
}

// Another run out of the text of a file: what /api/v1/history gives, or [[classes, accuracy], ...]. Throws an Error that
// says what the file should be.
export function readReference(name, text) {
    const wrong = new Error(`${name} is not a history: save /api/v1/history of the other run, or write ` +
        "[[classes seen, accuracy], …] with accuracies from 0 to 1.");
    let data;
    try {
        data = JSON.parse(text);
    } catch {
        throw wrong;
    }
    const pairs = Array.isArray(data) ? data : historyPairs(data);
    const good = ([x, y]) => Number.isFinite(x) && (y === null || (y >= 0 && y <= 1));
    if (!pairs?.length || !pairs.every((p) => Array.isArray(p) && good(p)))
        throw wrong;
    return { label: name.replace(/\.json$/, ""), points: pairs.map(([x, y]) => ({ x, y })) };
}

function historyPairs(history) {
    if (!Array.isArray(history?.accuracy) || !Array.isArray(history.per_class))
        return null;
    return history.accuracy.map((y, t) => [history.per_class.filter((c) => c.step <= t + 1).length, y]);
}
