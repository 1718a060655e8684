// files.js - what was dropped or chosen, as images of classes: the folder an image lies in names its class.

const IMAGE = /\.(jpe?g|png)$/i;

function entryFile(entry) {
    return new Promise((resolve, reject) => entry.file(resolve, reject));
}

async function entriesOf(folder) {
    const reader = folder.createReader(), all = [];
    for (;;) { // a call gives a hundred or so
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (some.length === 0)
            return all;
        all.push(...some);
    }
}

async function walk(entry, path, out) {
    if (entry.isFile)
        out.push({ path: [...path, entry.name], file: await entryFile(entry) });
    else
        for (const inner of await entriesOf(entry))
            await walk(inner, [...path, entry.name], out);
}

// { images: [{ folder, name, file }], left: number of files that are no JPEG or PNG by name }; folder "" where none was given
function sortOut(found) {
    const images = found.filter(({ path }) => IMAGE.test(path.at(-1)) && !path.at(-1).startsWith("."));
    return { left: found.length - images.length,
        images: images.map(({ path, file }) => ({ folder: path.at(-2) ?? "", name: path.at(-1), file })) };
}

export async function fromDrop(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // before any await
    const found = [];
    for (const entry of entries)
        await walk(entry, [], found);
    return sortOut(found);
}

export const fromInput = (input) => sortOut([...input.files].map((file) =>
    ({ path: (file.webkitRelativePath || file.name).split("/"), file })));
