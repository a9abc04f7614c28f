// Colours for code: comments, strings, numbers and words that most languages give a meaning. Not a parser; what it gets
// wrong stays readable.
import { el } from "./dom.js";

const MOST_CHARACTERS = 50_000;

const WORDS = new Set(("abstract and as assert async await auto begin bool boolean break byte case catch char class const constexpr continue def " +
  "default defer del delete do double elif else elsif end enum except export extends extern false final finally float fn for " +
  "foreach from func function global go goto if impl implements import in include inline instanceof int interface is lambda let " +
  "long loop match mod module mut namespace new nil none None nonlocal not null nullptr operator or override package pass private " +
  "proc protected pub public raise ref repeat return self short signed sizeof static struct super switch template then this " +
  "throw trait true True False try type typedef typename typeof undefined union unless unsigned until use using val var virtual void volatile " +
  "where while with yield").split(" "));
const SQL = new Set(("select from where and or not in is null insert into values update set delete create table drop alter join left right inner " +
  "outer on group by order having limit as distinct union all case when then else end primary key references index").split(" "));

const HASH = new Set(["python", "py", "sh", "bash", "shell", "zsh", "ruby", "rb", "perl", "yaml", "yml", "toml", "r", "make", "makefile", "cmake", "dockerfile", "conf", "ini", "console"]);
const DASH = new Set(["sql", "lua", "haskell", "hs", "ada", "elm"]);
const PLAIN = new Set(["", "text", "txt", "plain", "plaintext", "markdown", "md", "output", "log", "csv"]);

function commentOf(language) {
  if (HASH.has(language)) return "#[^\\n]*";
  if (DASH.has(language)) return "--[^\\n]*";
  return "//[^\\n]*|/\\*[^]*?(?:\\*/|$)";
}

// Replaces the text of `code` by text and spans.
export function highlight(code, name) {
  const language = name.toLowerCase();
  const text = code.textContent;
  if (PLAIN.has(language) || text.length > MOST_CHARACTERS) return;
  const words = language === "sql" ? SQL : WORDS;
  const token = new RegExp(
    `(?<comment>${commentOf(language)})|(?<string>"(?:[^"\\\\\\n]|\\\\.)*"?|'(?:[^'\\\\\\n]|\\\\.)*'?|\`(?:[^\`\\\\]|\\\\.)*\`?)` +
    "|(?<number>\\b(?:0[xXbBoO][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\b)|(?<word>[A-Za-z_]\\w*)", "g");
  const out = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(token)) {
    const { comment, string, number, word } = match.groups;
    const known = word !== undefined && words.has(language === "sql" ? word.toLowerCase() : word);
    const called = word !== undefined && !known && text[match.index + word.length] === "(";
    const kind = comment !== undefined ? "comment" : string !== undefined ? "string" : number !== undefined ? "number" : known ? "word" : called ? "call" : null;
    if (kind === null) continue;
    out.append(text.slice(at, match.index), el("span", { class: `hl-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  out.append(text.slice(at));
  code.replaceChildren(out);
}
