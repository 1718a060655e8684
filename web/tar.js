// tar.js - files as one tar (ustar) in a Blob: the browser reads them from disk as it sends, nothing is held in memory.

const BLOCK = 512, NAME_BYTES = 100, FOLDER_BYTES = 155;
const encoder = new TextEncoder();

// At most `most` bytes, cut between characters; the end of a file's name says what it is and stays.
function fit(text, most) {
    let from = 0;
    while (encoder.encode(text.slice(from)).length > most)
        from++;
    return encoder.encode(text.slice(from));
}

const octal = (number, digits) => encoder.encode(`${number.toString(8).padStart(digits, "0")}\0`);

function header(folder, name, size) {
    const block = new Uint8Array(BLOCK);
    block.set(fit(name, NAME_BYTES), 0);
    block.set(octal(0o644, 7), 100);
    block.set(octal(0, 7), 108);
    block.set(octal(0, 7), 116);
    block.set(octal(size, 11), 124);
    block.set(octal(0, 11), 136);
    block.fill(0x20, 148, 156); // the sum is taken with blanks in its place
    block.set(encoder.encode("0ustar\x0000"), 156);
    block.copyWithin(257, 157, 165);
    block.fill(0, 157, 165);
    block.set(fit(folder, FOLDER_BYTES), 345);
    block.set(octal(block.reduce((total, byte) => total + byte, 0), 6), 148);
    return block;
}

// files: [{ folder, name, file }] -> { blob, ends }: ends[i] is the byte after the i-th file
export function makeTar(files) {
    const parts = [], ends = [];
    let at = 0;
    for (const { folder, name, file } of files) {
        const padding = (BLOCK - (file.size % BLOCK)) % BLOCK;
        parts.push(header(folder, name, file.size), file, new Uint8Array(padding));
        at += BLOCK + file.size + padding;
        ends.push(at);
    }
    parts.push(new Uint8Array(2 * BLOCK));
    return { blob: new Blob(parts, { type: "application/x-tar" }), ends };
}
