// Markdown as models write it, to DOM nodes: a subset of CommonMark and GitHub's tables, task lists and strike-through.
// Text of a model is hostile: HTML is text, pictures are links, links go to http, https and mailto alone, and no input
// takes more than linear time or deep recursion.
import { copyText, el, icon } from "./dom.js";
import { highlight } from "./highlight.js";

const MOST_DEPTH = 8;        // of lists and quotes within each other
const MOST_FRAMES = 32;      // of emphasis and brackets open at once
const MOST_CELLS = 20_000;   // of a table; larger ones are shown as they were written
const MOST_COLUMNS = 64;
const MOST_URL = 2048;

// ---- Blocks ----

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: ( {0,3})(?=\S)|(?= {5})| *$)/;

const indentOf = (line) => line.length - line.trimStart().length;

function isRule(line) {
  const marks = line.replaceAll(" ", "");
  return marks.length >= 3 && "-*_".includes(marks[0]) && indentOf(line) < 4 && marks === marks[0].repeat(marks.length);
}

// Cells of a table's row; pipes behind a backslash or within code do not count.
function cellsOf(line) {
  let row = line.trim();
  if (row.startsWith("|")) row = row.slice(1);
  const cells = [];
  let cell = "", code = false;
  for (let i = 0; i < row.length; ++i) {
    const c = row[i];
    if (c === "\\" && row[i + 1] === "|") {
      cell += "|";
      ++i;
    } else if (c === "|" && !code) {
      cells.push(cell.trim());
      cell = "";
    } else {
      if (c === "`") code = !code && row.indexOf("`", i + 1) > 0;
      cell += c;
    }
  }
  if (cell.trim() !== "") cells.push(cell.trim());
  return cells;
}

function alignments(line) {
  if (!line.includes("-") || !line.includes("|")) return null;
  const cells = cellsOf(line);
  if (cells.length === 0 || cells.length > MOST_COLUMNS || !cells.every((c) => /^:?-+:?$/.test(c))) return null;
  return cells.map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : "left"));
}

const startsBlock = (line) =>
  FENCE.test(line) || HEADING.test(line) || /^ {0,3}>/.test(line) || isRule(line) || /^ {0,3}([-*+]|1[.)]) /.test(line);

function readFence(lines, at, match) {
  const fence = match[1], indent = indentOf(lines[at]);
  const code = [];
  let i = at + 1;
  for (; i < lines.length; ++i) {
    const trimmed = lines[i].trim();
    if (trimmed.length >= fence.length && indentOf(lines[i]) < 4 && trimmed === fence[0].repeat(trimmed.length)) break;
    code.push(lines[i].slice(Math.min(indent, indentOf(lines[i]))));
  }
  const language = match[2].trim().split(/\s/)[0].slice(0, 32);
  return [{ type: "code", language, text: code.join("\n"), open: i >= lines.length }, i + 1];
}

function readQuote(lines, at, depth) {
  const inner = [];
  let i = at;
  for (; i < lines.length; ++i) {
    if (/^ {0,3}>/.test(lines[i])) inner.push(lines[i].replace(/^ {0,3}> ?/, ""));
    else if (lines[i].trim() !== "" && inner.at(-1).trim() !== "" && !startsBlock(lines[i])) inner.push(lines[i]);
    else break;
  }
  return [{ type: "quote", blocks: parseLines(inner, depth + 1) }, i];
}

function readList(lines, at, depth, first) {
  const ordered = /\d/.test(first[2]);
  const list = { type: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, loose: false, items: [] };
  let i = at;
  while (i < lines.length) {
    const match = ITEM.exec(lines[i]);
    if (!match || isRule(lines[i]) || /\d/.test(match[2]) !== ordered) break;
    const content = match[1].length + match[2].length + 1 + (match[3] ?? "").length;
    // Models often indent less below "1. " than CommonMark wants.
    const least = Math.min(content, match[1].length + 2);
    const inner = [lines[i].slice(content)];
    let blank = false;
    for (++i; i < lines.length; ++i) {
      const line = lines[i], indent = indentOf(line);
      if (line.trim() === "") {
        blank = true;
        inner.push("");
      } else if (indent >= least) {
        if (blank) list.loose = true;
        blank = false;
        inner.push(line.slice(Math.min(indent, content)));
      } else if (!blank && !ITEM.test(line) && !startsBlock(line)) {
        inner.push(line);
      } else {
        break;
      }
    }
    if (blank && i < lines.length && ITEM.test(lines[i])) list.loose = true;
    const task = /^\[([ xX])\] /.exec(inner[0]);
    if (task) inner[0] = inner[0].slice(4);
    list.items.push({ task: task ? task[1] !== " " : null, blocks: parseLines(inner, depth + 1) });
  }
  return [list, i];
}

function readTable(lines, at, align) {
  const rows = [cellsOf(lines[at])];
  let i = at + 2, cells = rows[0].length;
  for (; i < lines.length && lines[i].trim() !== "" && lines[i].includes("|"); ++i) {
    rows.push(cellsOf(lines[i]).slice(0, align.length));
    cells += align.length;
  }
  if (cells > MOST_CELLS) return [{ type: "code", language: "", text: lines.slice(at, i).join("\n"), open: false }, i];
  return [{ type: "table", align, rows }, i];
}

function readParagraph(lines, at) {
  let i = at + 1;
  while (i < lines.length && lines[i].trim() !== "" && !startsBlock(lines[i]) &&
         !(i + 1 < lines.length && lines[i].includes("|") && alignments(lines[i + 1]))) {
    ++i;
  }
  return [{ type: "paragraph", text: lines.slice(at, i).map((l) => l.trimStart()).join("\n").trimEnd() }, i];
}

// Blocks with the number of the line they begin at.
function parseLines(lines, depth) {
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i], begin = i;
    if (line.trim() === "") {
      ++i;
      continue;
    }
    let block, match;
    const nest = depth < MOST_DEPTH;
    if ((match = FENCE.exec(line))) {
      [block, i] = readFence(lines, i, match);
    } else if ((match = HEADING.exec(line))) {
      block = { type: "heading", level: match[1].length, text: match[2].trim().replace(/(?<=^|\s)#+$/, "").trim() };
      ++i;
    } else if (isRule(line)) {
      block = { type: "rule" };
      ++i;
    } else if (nest && /^ {0,3}>/.test(line)) {
      [block, i] = readQuote(lines, i, depth);
    } else if (nest && (match = ITEM.exec(line))) {
      [block, i] = readList(lines, i, depth, match);
    } else {
      const align = line.includes("|") && i + 1 < lines.length ? alignments(lines[i + 1]) : null;
      [block, i] = align ? readTable(lines, i, align) : readParagraph(lines, i);
    }
    block.line = begin;
    blocks.push(block);
  }
  return blocks;
}

export const parseMarkdown = (text) => parseLines(text.split(/\r\n|\r|\n/), 0);

// ---- Within a line ----

const isSpace = (c) => c === "" || /\s/.test(c);
const isPunctuation = (c) => /[\p{P}\p{S}]/u.test(c);

// {href, end} of "(url)" or '(url "title")' at `at`, or null.
function destination(text, at) {
  if (text[at] !== "(") return null;
  let depth = 1, i = at + 1;
  const most = Math.min(text.length, at + MOST_URL);
  for (; i < most; ++i) {
    const c = text[i];
    if (c === "\n" || c === "[" || c === "`") return null;
    if (c === "(") ++depth;
    if (c === ")" && --depth === 0) break;
  }
  if (i >= most) return null;
  const inside = text.slice(at + 1, i).trim(), space = inside.search(/\s/);
  const href = space < 0 ? inside : inside.slice(0, space), title = space < 0 ? "" : inside.slice(space).trim();
  if (title !== "" && !(title.length > 1 && title[0] === title.at(-1) && "\"'".includes(title[0]))) return null;
  return { href: href.startsWith("<") && href.endsWith(">") ? href.slice(1, -1) : href, end: i + 1 };
}

// The address a link may go to, or null.
export function safeHref(href) {
  if (!/^(https?:\/\/|mailto:)[^\s\u0000-\u001f\u007f]+$/i.test(href)) return null;
  try {
    return new URL(href).href;
  } catch {
    return null;
  }
}

// The frame that a run of `length` marks closes, 0: none. Emphasis does not reach out of brackets.
function opener(frames, mark, length) {
  let found = 0;
  for (let f = frames.length - 1; f > 0 && !frames[f].mark.endsWith("["); --f) {
    if (frames[f].mark[0] !== mark || frames[f].mark.length > length) continue;
    // One as long as the run comes before one that is merely nearer.
    if (length > 2 || frames[f].mark.length === length) return f;
    if (found === 0) found = f;
  }
  return found;
}

// Inline markdown as a list of strings and {type, children | text, href}.
export function parseInline(text) {
  const frames = [{ children: [] }];
  const out = () => frames.at(-1).children;
  const put = (piece) => {
    const list = out();
    if (typeof piece === "string" && typeof list.at(-1) === "string") list[list.length - 1] += piece;
    else list.push(piece);
  };
  // What opened in vain is text.
  const flatten = () => {
    const frame = frames.pop();
    put(frame.mark);
    frame.children.forEach(put);
  };
  // Where runs of so many backticks begin, for finding code's ends without looking twice.
  const ticks = new Map();
  for (const run of text.matchAll(/`+/g)) {
    if (!ticks.has(run[0].length)) ticks.set(run[0].length, { at: [], next: 0 });
    ticks.get(run[0].length).at.push(run.index);
  }
  const plain = /[^\\`*_~[\]!\n]+/y;
  for (let i = 0; i < text.length;) {
    plain.lastIndex = i;
    const run = plain.exec(text);
    if (run) {
      put(run[0]);
      i = plain.lastIndex;
      continue;
    }
    const c = text[i];
    if (c === "\\" && i + 1 < text.length && /[!-/:-@[-`{-~\n]/.test(text[i + 1])) {
      put(text[i + 1] === "\n" ? { type: "break" } : text[i + 1]);
      i += 2;
    } else if (c === "\n") {
      put({ type: "break" });
      ++i;
    } else if (c === "`") {
      let length = 1;
      while (text[i + length] === "`") ++length;
      const ends = ticks.get(length);
      while (ends && ends.next < ends.at.length && ends.at[ends.next] <= i) ++ends.next;
      const end = ends?.at[ends.next];
      if (end === undefined) {
        put(text.slice(i, i + length));
        i += length;
      } else {
        const code = text.slice(i + length, end).replaceAll("\n", " ");
        const padded = code.length > 2 && code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
        put({ type: "code", text: padded ? code.slice(1, -1) : code });
        i = end + length;
      }
    } else if (c === "*" || c === "_" || c === "~") {
      let length = 1;
      while (text[i + length] === c) ++length;
      const before = text[i - 1] ?? "", after = text[i + length] ?? "";
      const left = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before));
      const right = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after));
      const word = c !== "_";
      const opens = left && (word || !right || isPunctuation(before)), closes = right && (word || !left || isPunctuation(after));
      let rest = length;
      while (closes && rest > 0) {
        const f = opener(frames, c, rest);
        if (f === 0) break;
        while (frames.length - 1 > f) flatten();
        const { mark, children } = frames.pop();
        put({ type: c === "~" ? "strike" : mark.length === 2 ? "strong" : "emphasis", children });
        rest -= mark.length;
      }
      const sizes = c === "~" ? (rest === 2 ? [2] : []) : rest === 3 ? [2, 1] : rest < 3 && rest > 0 ? [rest] : [];
      if (rest > 0 && opens && sizes.length > 0 && frames.length + sizes.length < MOST_FRAMES) {
        for (const size of sizes) frames.push({ mark: c.repeat(size), children: [] });
      } else if (rest > 0) {
        put(c.repeat(rest));
      }
      i += length;
    } else if (c === "[" || (c === "!" && text[i + 1] === "[")) {
      const mark = c === "[" ? "[" : "![";
      if (frames.length < MOST_FRAMES) frames.push({ mark, children: [] });
      else put(mark);
      i += mark.length;
    } else if (c === "]") {
      let f = frames.length - 1;
      while (f > 0 && !frames[f].mark.endsWith("[")) --f;
      const target = f > 0 ? destination(text, i + 1) : null;
      if (f > 0) {
        while (frames.length - 1 > f) flatten();
        if (target) {
          const { children } = frames.pop();
          put({ type: "link", href: target.href, children });
        } else {
          flatten();
        }
      }
      if (!target) put("]");
      i = target ? target.end : i + 1;
    } else {
      put(c);
      ++i;
    }
  }
  while (frames.length > 1) flatten();
  return frames[0].children;
}

// ---- To nodes ----

function linkTo(href, content) {
  const link = el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow ugc", title: href });
  link.append(content);
  return link;
}

const URL_IN_TEXT = /https?:\/\/[^\s<>"'`\u0000-\u001f]+/gi;

// Text in which addresses become links.
function textNodes(text, inLink) {
  const out = document.createDocumentFragment();
  let at = 0;
  if (!inLink) {
    for (const match of text.matchAll(URL_IN_TEXT)) {
      let url = match[0].slice(0, MOST_URL).replace(/[.,;:!?]{1,100}$/, "");
      if (url.endsWith(")") && !url.includes("(")) url = url.slice(0, -1);
      const href = safeHref(url);
      if (!href) continue;
      out.append(text.slice(at, match.index), linkTo(href, url));
      at = match.index + url.length;
    }
  }
  out.append(text.slice(at));
  return out;
}

const TAGS = { strong: "strong", emphasis: "em", strike: "s" };

function inlineNodes(pieces, inLink = false) {
  const out = document.createDocumentFragment();
  for (const piece of pieces) {
    if (typeof piece === "string") {
      out.append(textNodes(piece, inLink));
    } else if (piece.type === "break") {
      out.append(el("br"));
    } else if (piece.type === "code") {
      out.append(el("code", {}, piece.text));
    } else if (piece.type === "link") {
      const href = inLink ? null : safeHref(piece.href);
      const content = inlineNodes(piece.children, true);
      if (href) {
        if (!content.hasChildNodes()) content.append(href);
        out.append(linkTo(href, content));
      } else {
        out.append(content, piece.href === "" ? "" : ` (${piece.href})`);
      }
    } else {
      out.append(el(TAGS[piece.type], {}, inlineNodes(piece.children, inLink)));
    }
  }
  return out;
}

const inline = (text) => inlineNodes(parseInline(text));

function codeNode(block) {
  const code = el("code", {}, block.text);
  if (!block.open) highlight(code, block.language);
  const label = block.language || "text";
  const name = el("span", {}, "Copy");
  const copy = el("button", { type: "button", class: "copy-code", "aria-label": `Copy code (${label})` }, icon("copy"), name);
  copy.addEventListener("click", async () => {
    name.textContent = (await copyText(code.textContent)) ? "Copied" : "Not copied";
    setTimeout(() => { name.textContent = "Copy"; }, 1500);
  });
  return el("div", { class: "code" }, el("div", { class: "code-head" }, el("span", {}, label), copy),
    el("pre", { tabindex: 0, role: "region", "aria-label": `Code, ${label}` }, code));
}

function tableNode(block) {
  const cells = (row, tag) => block.align.map((align, i) => el(tag, { class: `align-${align}`, scope: tag === "th" ? "col" : null }, inline(row[i] ?? "")));
  return el("div", { class: "table-wrap", tabindex: 0, role: "region", "aria-label": "Table" },
    el("table", {}, el("thead", {}, el("tr", {}, ...cells(block.rows[0], "th"))),
      el("tbody", {}, ...block.rows.slice(1).map((row) => el("tr", {}, ...cells(row, "td"))))));
}

function listNode(block) {
  const items = block.items.map((item) => {
    const node = el("li", { class: item.task === null ? null : "task" });
    if (item.task !== null) {
      node.append(el("input", { type: "checkbox", disabled: true, checked: item.task, "aria-label": item.task ? "done" : "to do" }));
    }
    for (const inner of item.blocks) {
      node.append(inner.type === "paragraph" && !block.loose ? inline(inner.text) : blockNode(inner));
    }
    return node;
  });
  return el(block.ordered ? "ol" : "ul", { start: block.ordered && block.start !== 1 ? block.start : null }, ...items);
}

function blockNode(block) {
  switch (block.type) {
    case "heading":
      // The page's own headings are h1 and h2.
      return el(`h${Math.min(6, block.level + 2)}`, {}, inline(block.text));
    case "rule":
      return el("hr");
    case "code":
      return codeNode(block);
    case "quote":
      return el("blockquote", {}, ...block.blocks.map(blockNode));
    case "list":
      return listNode(block);
    case "table":
      return tableNode(block);
    default:
      return el("p", {}, inline(block.text));
  }
}

// Keeps `place` showing a text that grows. Blocks that later text cannot change are left alone.
export class MarkdownView {
  constructor(place) {
    this.place = place;
    this.source = "";
    this.stable = 0;  // where the first block that may still change begins in the source
    this.open = [];   // such blocks, {node, block}
  }

  update(source) {
    if (source === this.source) return;
    if (!source.startsWith(this.source)) {
      this.place.replaceChildren();
      this.stable = 0;
      this.open = [];
    }
    this.source = source;
    const text = source.slice(this.stable);
    const lines = text.split(/\r\n|\r|\n/);
    const blocks = parseLines(lines, 0);
    if (blocks.length === 1 && this.open.length === 1 && this.#grow(blocks[0])) return;
    for (const { node } of this.open) node.remove();
    this.open = blocks.map((block) => ({ node: blockNode(block), block }));
    this.place.append(...this.open.map((o) => o.node));
    // What a block begins with may turn out to belong to the one before it until its first line is whole.
    let first = blocks.length - 1;
    while (first > 0 && blocks[first].line >= lines.length - 1) --first;
    if (first <= 0) return;
    this.stable += offsetOfLine(text, blocks[first].line);
    this.open = this.open.slice(first);
  }

  // Code that is still being written gets longer: its nodes stay, and with them the reader's place and selection.
  #grow(block) {
    const [{ node, block: before }] = this.open;
    if (before.type !== "code" || block.type !== "code" || !before.open || !block.open) return false;
    if (before.language !== block.language || !block.text.startsWith(before.text)) return false;
    node.querySelector("code").append(block.text.slice(before.text.length));
    this.open = [{ node, block }];
    return true;
  }
}

function offsetOfLine(text, line) {
  let at = 0;
  for (const end = /\r\n|\r|\n/g; line > 0; --line) {
    end.lastIndex = at;
    if (!end.exec(text)) break;
    at = end.lastIndex;
  }
  return at;
}
