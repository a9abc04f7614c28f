// Puts the page together: the list of conversations, the message field, dialogs and keys.
import { $, announce, copyText, download, el, icon, iconButton, toast } from "./dom.js";
import { getJson, hasKey, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { setUpMonitor } from "./monitor.js";
import { setUpSettings } from "./settings.js";
import * as store from "./store.js";

const settings = store.loadSettings();
let model = { name: "", context: 0, chat: true, defaults: {} };
let conversation = null;

const page = {
  settings,
  model: () => model,
  defaults: () => model.defaults,
  conversation: () => conversation,
  saveConversation: () => isEmpty(conversation) || keep(conversation),
  // Stores what has changed and shows it.
  changed(which = conversation) {
    keep(which);
    showList();
    showState();
  },
  forgetAll() {
    for (const entry of store.list()) {
      chat.stop(entry.id);
      erased.add(entry.id);
    }
    store.eraseAll();
    open(store.newConversation(settings.system ?? ""));
    toast("All conversations are deleted.");
  },
  reloadList: () => showList(),
  askKey,
};

const isEmpty = (c) => Object.keys(c.nodes).length === 0;

const erased = new Set();  // ids of conversations that an answer still being stopped must not bring back

function keep(which) {
  if (erased.has(which.id)) return;
  const stored = store.save(which);
  $("storage-full").hidden = stored;
}

// ---- Conversations ----

function showState() {
  const title = conversation.title || "New conversation";
  $("title").textContent = title;
  document.title = conversation.title ? `${title} · llrt` : "llrt";
  $("send").hidden = chat.busy;
  $("stop").hidden = !chat.busy;
}

function showList() {
  const entries = store.list();
  $("conversations").replaceChildren(...entries.map((entry) => {
    const current = entry.id === conversation.id;
    const title = entry.title || "New conversation";
    return el("li", { class: current ? "current" : null },
      el("button", { type: "button", class: "conversation", "aria-current": current ? "true" : null, title, onclick: () => choose(entry.id) }, title),
      iconButton("edit", `Rename ${title}`, () => rename(entry.id)),
      iconButton("trash", `Delete ${title}`, () => erase(entry.id)));
  }));
  $("no-conversations").hidden = entries.length > 0;
}

// The one that is shown or being answered, where it is one of these: the stored one may be older.
const find = (id) => (id === conversation?.id ? conversation : chat.answering(id) ?? store.load(id));

function open(next) {
  conversation = next;
  chat.render();
  showList();
  showState();
}

function choose(id) {
  const found = find(id);
  if (!found) {
    store.erase(id);
    toast("This conversation cannot be read any more.");
    return showList();
  }
  open(found);
  closeSidebar();
  $("prompt").focus();
}

function startNew() {
  open(store.newConversation(settings.system ?? ""));
  closeSidebar();
  $("prompt").focus();
}

function rename(id) {
  const which = find(id);
  if (!which) return;
  const dialog = $("rename");
  $("rename-to").value = which.title;
  dialog.returnValue = "";
  dialog.showModal();
  $("rename-to").select();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes" || $("rename-to").value.trim() === "") return;
    which.title = $("rename-to").value.trim().slice(0, 200);
    keep(which);
    showList();
    showState();
  }, { once: true });
}

function erase(id) {
  const gone = find(id);
  chat.stop(id);
  erased.add(id);
  store.erase(id);
  if (id === conversation.id) {
    const next = store.list()[0];
    open((next && find(next.id)) ?? store.newConversation(settings.system ?? ""));
  } else {
    showList();
  }
  toast("Conversation deleted.", gone && { label: "Undo", run: () => {
    erased.delete(id);
    keep(gone);
    choose(id);
  } });
}

// ---- API key ----

function askKey() {
  const dialog = $("key");
  if (dialog.open) return;
  $("key-value").value = "";
  $("key-note").textContent = hasKey() ? "The server does not know the key that was given." : "This server wants an API key: ask whoever runs it.";
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    setKey($("key-value").value, $("key-remember").checked);
    $("key-value").value = "";
    learn();
  }, { once: true });
}

// ---- The model ----

async function learn() {
  try {
    const props = await getJson("/props");
    const settingsOf = props.default_generation_settings ?? {};
    model = { name: props.model_alias ?? "", context: settingsOf.n_ctx ?? props.context_length ?? 0,
      chat: (props.chat_template ?? "") !== "", defaults: settingsOf.params ?? {} };
    $("model").textContent = model.name;
    $("offline").hidden = true;
    if (isEmpty(conversation)) chat.render();
  } catch (error) {
    if (error.kind === "key") return askKey();
    $("offline-text").textContent = error.message;
    $("offline").hidden = false;
    if (error.kind === "loading") setTimeout(learn, 2000);
  }
}

// ---- Sidebar, theme, keys ----

const narrow = matchMedia("(max-width: 800px)");

function showSidebar() {
  const shown = !narrow.matches || document.body.classList.contains("sidebar-open");
  $("sidebar").inert = !shown;
  $("main").inert = narrow.matches && shown;
  $("open-sidebar").setAttribute("aria-expanded", String(shown));
}

function openSidebar() {
  document.body.classList.add("sidebar-open");
  showSidebar();
  $("new").focus();
}

function closeSidebar() {
  if (!document.body.classList.contains("sidebar-open")) return;
  document.body.classList.remove("sidebar-open");
  showSidebar();
  $("open-sidebar").focus();
}

const THEMES = ["system", "light", "dark"];
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" };

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "system";
  const button = $("theme");
  button.replaceChildren(icon(THEME_ICONS[theme]));
  button.setAttribute("aria-label", `Colours: ${theme}`);
  button.title = `Colours: ${theme}`;
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("llrt.theme");
    else localStorage.setItem("llrt.theme", theme);
  } catch {
    // Storage is switched off: until the page is closed.
  }
  showTheme();
  announce(`Colours: ${theme}`);
}

const prompt = $("prompt");

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, Math.round(innerHeight * 0.4))}px`;
  $("send").disabled = prompt.value.trim() === "";
}

function submit() {
  if (chat.busy || prompt.value.trim() === "") return;
  const content = prompt.value;
  prompt.value = "";
  fitPrompt();
  chat.send(content);
}

prompt.addEventListener("input", fitPrompt);
prompt.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  // On-screen keyboards have no Shift+Enter.
  if (event.key === "Enter" && !event.shiftKey && !matchMedia("(pointer: coarse)").matches) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && prompt.value === "") {
    event.preventDefault();
    chat.editLast();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("stop").addEventListener("click", () => {
  chat.stop();
  prompt.focus();
});
document.addEventListener("keydown", (event) => {
  const dialog = document.querySelector("dialog[open]");
  const typing = event.target.matches?.("input, textarea, select");
  if (event.key === "Escape" && !dialog) {
    if (document.body.classList.contains("sidebar-open")) closeSidebar();
    else if (chat.busy) chat.stop();
  } else if (event.key === "/" && !typing && !dialog && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    prompt.focus();
  } else if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey) && !dialog) {
    event.preventDefault();
    startNew();
  }
});
$("open-sidebar").addEventListener("click", openSidebar);
$("close-sidebar").addEventListener("click", closeSidebar);
$("scrim").addEventListener("click", closeSidebar);
narrow.addEventListener("change", showSidebar);
$("theme").addEventListener("click", nextTheme);
$("new").addEventListener("click", startNew);
$("retry-model").addEventListener("click", learn);
$("export-one").addEventListener("click", () => {
  const name = (conversation.title || "conversation").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  download(`${name}.md`, store.exportMarkdown(conversation), "text/markdown");
});
$("copy-one").addEventListener("click", async () => {
  toast((await copyText(store.exportMarkdown(conversation))) ? "The conversation is copied." : "The browser does not allow copying.");
});
addEventListener("storage", (event) => {
  const id = store.conversationOf(event.key);
  if (id === conversation.id && !chat.busy && !document.querySelector(".editing")) {
    const other = store.load(id);
    if (other) {
      conversation = other;
      chat.render();
      showState();
    }
  }
  if (id || store.isIndex(event.key)) showList();
});
addEventListener("pagehide", () => {
  for (const c of new Set([conversation, ...chat.allAnswering()])) isEmpty(c) || keep(c);
});

for (const button of document.querySelectorAll("dialog .cancel")) {
  button.addEventListener("click", () => button.closest("dialog").close("no"));
}

const chat = new Chat(page);
setUpSettings(page);
const latest = store.list()[0];
open((latest && store.load(latest.id)) ?? store.newConversation(settings.system ?? ""));
showTheme();
showSidebar();
fitPrompt();
setUpMonitor();
learn();
if (!matchMedia("(pointer: coarse)").matches) prompt.focus();
