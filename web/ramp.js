// ramp.js - shares as colours. One ramp whose lightness rises evenly, so that it reads without colours too; good is dark on a
// light page and bright on a dark one.

const STOPS = [[222, 245, 229], [138, 217, 177], [64, 183, 173], [52, 143, 167], [55, 101, 158], [65, 61, 123], [46, 30, 59]];

// share 0..1 -> { fill, ink }: colours of a cell and of the number on it
export function ramp(share, dark) {
    const at = Math.min(Math.max(dark ? 1 - share : share, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    const rgb = STOPS[low].map((from, i) => Math.round(from + (at - low) * (STOPS[low + 1][i] - from)));
    const light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    return { fill: `rgb(${rgb.join(" ")})`, ink: light > 140 ? "#10202b" : "#ffffff" };
}
