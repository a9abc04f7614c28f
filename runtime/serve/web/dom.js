// Elements from names, attributes and children. Strings become text, never markup.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child !== undefined && child !== null) node.append(child);
  }
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

// A symbol of the page's sprite.
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

// A button that shows an icon; `label` is its name for everybody who cannot see that.
export function iconButton(name, label, onclick, more = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

const byId = (id) => document.getElementById(id);
export { byId as $ };

let announced = 0;
// Says a short text to screen readers.
export function announce(text) {
  // The same text twice in a row is only said again when the node changes.
  byId("announcer").textContent = text + (announced++ % 2 ? "\u00a0" : "");
}

let toastTimer = 0;
// A note at the bottom for a few seconds, perhaps with something to do about it: {label, run}.
export function toast(text, action) {
  const place = byId("toast");
  clearTimeout(toastTimer);
  const close = () => place.replaceChildren();
  place.replaceChildren(el("div", { class: "toast" }, el("span", {}, text),
    action && el("button", { type: "button", class: "link-button", onclick: () => { close(); action.run(); } }, action.label)));
  toastTimer = setTimeout(close, action ? 8000 : 4000);
}

// Asks in a dialog; resolves to whether the answer was yes.
export function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that are neither HTTPS nor localhost have no clipboard API.
    const area = el("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const number = (value, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
