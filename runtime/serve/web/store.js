// Conversations in the browser's storage: an index, and one entry for each. What is read back is checked: it may have been
// written by another version, or by hand.
//
// A conversation is a tree: editing a message or asking for another answer adds a branch beside the old one.
//   {id, title, updated, system, nodes: {id: {id, parent, role, content, ...}}, leaf}   leaf: the end of the branch shown

const INDEX = "llrt.conversations", ONE = "llrt.conversation.", SETTINGS = "llrt.settings";
const MOST_IMPORT = 64 << 20;

const memory = new Map();  // what could not be written
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36).padStart(2, "0")).join("");

function read(key) {
  if (memory.has(key)) return structuredClone(memory.get(key));
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

// False: the browser's storage is full or off; the value is kept until the page is closed.
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    memory.delete(key);
    return true;
  } catch {
    memory.set(key, structuredClone(value));
    return false;
  }
}

function remove(key) {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was stored.
  }
}

const text = (value, most = 1 << 22) => (typeof value === "string" ? value.slice(0, most) : "");
const count = (value) => (Number.isFinite(value) && value >= 0 ? value : 0);
const isId = (value) => typeof value === "string" && /^[\w-]{1,64}$/.test(value);

function checkedNode(id, raw) {
  if (!isId(id) || typeof raw !== "object" || raw === null || !["user", "assistant"].includes(raw.role)) return null;
  const node = { id, parent: isId(raw.parent) ? raw.parent : null, role: raw.role, content: text(raw.content), created: count(raw.created) };
  if (raw.reasoning) node.reasoning = text(raw.reasoning);
  if (raw.finish) node.finish = text(raw.finish, 32);
  if (raw.error) node.error = { kind: text(raw.error.kind, 16), message: text(raw.error.message, 2000) };
  if (raw.stats) {
    node.stats = { first: count(raw.stats.first), rate: count(raw.stats.rate), tokens: count(raw.stats.tokens), prompt: count(raw.stats.prompt) };
  }
  return node;
}

// A conversation made of what can be used of `raw`, or null.
export function checked(raw) {
  if (typeof raw !== "object" || raw === null || !isId(raw.id) || typeof raw.nodes !== "object" || raw.nodes === null) return null;
  const nodes = {};
  for (const [id, value] of Object.entries(raw.nodes)) {
    const node = checkedNode(id, value);
    if (node) nodes[id] = node;
  }
  for (const node of Object.values(nodes)) {
    if (node.parent !== null && !Object.hasOwn(nodes, node.parent)) node.parent = null;
  }
  // A message below itself would be followed for ever.
  const good = new Set();
  for (const start of Object.values(nodes)) {
    const path = new Set();
    let node = start;
    while (node && !good.has(node.id) && !path.has(node.id)) {
      path.add(node.id);
      node = nodes[node.parent];
    }
    if (node && path.has(node.id)) node.parent = null;
    path.forEach((id) => good.add(id));
  }
  const leaf = isId(raw.leaf) && Object.hasOwn(nodes, raw.leaf) ? raw.leaf : Object.keys(nodes).at(-1) ?? null;
  return { id: raw.id, title: text(raw.title, 200), updated: count(raw.updated), system: text(raw.system, 1 << 20), nodes, leaf };
}

export const newConversation = (system = "") => ({ id: newId(), title: "", updated: Date.now(), system, nodes: {}, leaf: null });

export function list() {
  const index = read(INDEX);
  if (!Array.isArray(index)) return [];
  return index.filter((e) => isId(e?.id)).map((e) => ({ id: e.id, title: text(e.title, 200), updated: count(e.updated) }))
    .sort((a, b) => b.updated - a.updated);
}

export const load = (id) => checked(read(ONE + id));

export function save(conversation) {
  const entry = { id: conversation.id, title: conversation.title, updated: conversation.updated };
  const written = write(ONE + conversation.id, conversation);
  return write(INDEX, [entry, ...list().filter((e) => e.id !== conversation.id)]) && written;
}

export function erase(id) {
  remove(ONE + id);
  write(INDEX, list().filter((e) => e.id !== id));
}

export function eraseAll() {
  for (const entry of list()) remove(ONE + entry.id);
  write(INDEX, []);
}

// True when another tab has changed what lies under `key`.
export const isIndex = (key) => key === INDEX || key === null;
export const conversationOf = (key) => (key?.startsWith(ONE) ? key.slice(ONE.length) : null);

export const loadSettings = () => read(SETTINGS) ?? {};
export const saveSettings = (settings) => write(SETTINGS, settings);

// ---- Files ----

export function exportAll() {
  return JSON.stringify({ format: "llrt-conversations", version: 1, conversations: list().map((e) => load(e.id)).filter(Boolean) }, null, 1);
}

export function exportMarkdown(conversation) {
  const parts = [`# ${conversation.title || "Conversation"}`];
  if (conversation.system) parts.push(`**System**\n\n${conversation.system}`);
  for (const node of branch(conversation)) parts.push(`**${node.role === "user" ? "You" : "Assistant"}**\n\n${node.content}`);
  return parts.join("\n\n") + "\n";
}

// How many conversations of a file that exportAll wrote were taken, and whether they could be stored; throws with what is wrong.
export async function importFile(file) {
  if (file.size > MOST_IMPORT) throw new Error(`the file has ${file.size} bytes, expected at most ${MOST_IMPORT}`);
  let data;
  try {
    data = JSON.parse(await file.text());
  } catch {
    throw new Error("the file is not JSON");
  }
  if (data?.format !== "llrt-conversations" || !Array.isArray(data.conversations)) throw new Error("the file does not hold conversations of this page");
  const known = new Set(list().map((e) => e.id));
  let taken = 0, stored = true;
  for (const raw of data.conversations) {
    const conversation = checked(raw);
    if (!conversation) continue;
    if (known.has(conversation.id)) conversation.id = newId();
    stored = save(conversation) && stored;
    ++taken;
  }
  return { taken, stored };
}

// ---- The tree ----

// The messages shown, first to last.
export function branch(conversation) {
  const path = [];
  for (let node = conversation.nodes[conversation.leaf]; node; node = conversation.nodes[node.parent]) path.push(node);
  return path.reverse();
}

export const siblings = (conversation, node) =>
  Object.values(conversation.nodes).filter((n) => n.parent === node.parent && n.role === node.role);

export function append(conversation, parent, role, content) {
  const node = { id: newId(), parent, role, content, created: Date.now() };
  conversation.nodes[node.id] = node;
  conversation.leaf = node.id;
  return node;
}

// Shows the branch of a sibling, down to its latest end.
export function show(conversation, node) {
  let end = node;
  for (;;) {
    const below = Object.values(conversation.nodes).filter((n) => n.parent === end.id);
    if (below.length === 0) break;
    end = below.at(-1);
  }
  conversation.leaf = end.id;
}
