// The settings dialog: system prompt of the conversation, sampling of all of them.
import { $, confirmed, download, el, toast } from "./dom.js";
import * as store from "./store.js";

// Fields of a request; the server's defaults hold where nothing is entered.
export const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, help: "0: always the most likely word; higher: more surprises" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.01, help: "draw from the fewest tokens that reach this probability" },
  { name: "top_k", label: "Top k", min: 0, max: 1000, step: 1, help: "draw from so many tokens; 0: all" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, help: "leave out tokens so much less likely than the best" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.5, max: 2, step: 0.01, help: "1: off; above: fewer repetitions" },
  { name: "max_tokens", label: "Longest answer", min: 1, max: 1_000_000, step: 1, help: "in tokens", unset: "what fits" },
  { name: "seed", label: "Seed", min: 0, max: 9_007_199_254_740_991, step: 1, help: "the same seed draws the same answer", unset: "random" },
];

const ok = (field, value) => typeof value === "number" && value >= field.min && value <= field.max;

// The members of a request that the settings ask for.
export function requestFields(settings) {
  const out = {};
  for (const field of FIELDS) {
    if (ok(field, settings[field.name])) out[field.name] = settings[field.name];
  }
  return out;
}

function rowOf(field, defaults, settings, changed) {
  const id = `set-${field.name}`;
  const input = el("input", { id, type: "number", inputmode: "decimal", min: field.min, max: field.max, step: field.step,
    placeholder: field.unset ?? defaults[field.name] ?? "", "aria-describedby": `${id}-help` });
  if (ok(field, settings[field.name])) input.value = settings[field.name];
  const help = el("small", { id: `${id}-help` }, field.help);
  input.addEventListener("input", () => {
    const value = input.value === "" ? undefined : Number(input.value);
    const good = input.validity.valid || (input.validity.stepMismatch && field.step !== 1);
    input.setAttribute("aria-invalid", String(!good));
    help.textContent = good ? field.help : `from ${field.min} to ${field.max}${field.step === 1 ? ", whole" : ""}`;
    if (good) changed(field.name, value);
  });
  return el("div", { class: "field" }, el("label", { for: id }, field.label), input, help);
}

// `page`: {settings, defaults(), conversation(), saveConversation(), forgetAll(), reloadList(), askKey()}.
export function setUpSettings(page) {
  const dialog = $("settings");
  const system = $("set-system");
  const changed = (name, value) => {
    if (value === undefined) delete page.settings[name];
    else page.settings[name] = value;
    store.saveSettings(page.settings);
  };
  const fill = () => {
    system.value = page.conversation().system;
    $("set-fields").replaceChildren(...FIELDS.map((f) => rowOf(f, page.defaults(), page.settings, changed)));
  };
  const open = () => {
    fill();
    dialog.showModal();
  };
  $("open-settings").addEventListener("click", open);
  system.addEventListener("input", () => {
    page.conversation().system = system.value;
    page.settings.system = system.value;
    store.saveSettings(page.settings);
    page.saveConversation();
  });
  $("set-reset").addEventListener("click", () => {
    for (const field of FIELDS) delete page.settings[field.name];
    store.saveSettings(page.settings);
    fill();
    toast("The server's own settings hold again.");
  });
  $("set-key").addEventListener("click", () => {
    dialog.close();
    page.askKey();
  });
  $("export-all").addEventListener("click", () => download("llrt-conversations.json", store.exportAll(), "application/json"));
  const file = $("import-file");
  $("import-all").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    if (file.files.length === 0) return;
    try {
      const { taken, stored } = await store.importFile(file.files[0]);
      toast(`${taken} conversations imported${stored ? "." : ", but the browser's storage is full: they go when the page is closed."}`);
    } catch (error) {
      toast(`Not imported: ${error.message}.`);
    }
    file.value = "";
    page.reloadList();
  });
  $("delete-all").addEventListener("click", async () => {
    dialog.close();
    const yes = await confirmed("Delete all conversations?", "They are stored in this browser alone. Export them first if you may want them again.", "Delete all");
    if (yes) page.forgetAll();
  });
  return { open };
}
