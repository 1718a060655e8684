// dom.js - makes elements. Names come from clients: text only, never markup.

// el("button", { class: "quiet", onclick: f, disabled: true, style: { "--share": "40%" } }, "text", node, null)
export function el(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {}))
        setAttribute(element, name, value);
    element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
    return element;
}

function setAttribute(element, name, value) {
    if (value === null || value === undefined || value === false)
        return;
    if (name.startsWith("on"))
        element.addEventListener(name.slice(2), value);
    else if (name === "style")
        Object.entries(value).forEach(([property, text]) => element.style.setProperty(property, text));
    else
        element.setAttribute(name, value === true ? "" : value);
}

// Replaces what is in `container`. The keyboard's place is kept: what has data-key in the old content and in the new one
// has the focus again.
export function swap(container, ...children) {
    const key = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    container.replaceChildren(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
    if (key !== undefined)
        [...container.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key)?.focus();
}

export const byId = (id) => document.getElementById(id);
