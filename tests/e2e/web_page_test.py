"""The chat page in a headless Chromium: what people do, what hostile models and full disks do, who can use it."""
import json
import os
import pathlib
import shutil
import tempfile
import unittest

import browser
from browser import Browser
from serving import Server, compile_served

ALT, CTRL, SHIFT = 1, 2, 8
# Answers given to the page in place of the server's: `answers` holds lists of pieces, or {status, body}; at a piece
# "wait" the answer stops until release() is called. Requests for answers are kept in `asked`; `more` is added to those
# that go to the server.
FAKE = """
window.asked = []; window.answers = []; window.more = {};
const real = window.fetch.bind(window);
window.fetch = async (path, options) => {
  if (!String(path).startsWith("/v1/")) return real(path, options);
  const body = JSON.parse(options.body);
  asked.push({path, ...body});
  const answer = answers.shift();
  if (answer === undefined) return real(path, {...options, body: JSON.stringify({...body, ...more})});
  if (!Array.isArray(answer)) return new Response(answer.body, {status: answer.status, headers: answer.headers ?? {}});
  const chunks = answer.map((piece) => typeof piece === "string" && piece !== "wait" ? {choices: [{index: 0, delta: {content: piece}, finish_reason: null}]} : piece);
  const lines = [...chunks.map((c) => c === "wait" ? c : `data: ${JSON.stringify(c)}\\r\\n\\r\\n`), ": a comment\\n\\n", "data: [DONE]\\n\\n"];
  return new Response(new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 3));
      if (lines[0] === "wait") await new Promise((resolve) => { window.release = resolve; lines.shift(); });
      if (lines.length === 0) return controller.close();
      controller.enqueue(new TextEncoder().encode(lines.shift()));
    }}), {status: 200});
};
"""
LAST = "[...document.querySelectorAll('.message.assistant')].at(-1)"
TEXT = f"{LAST}.querySelector('.markdown').textContent"
DONE = "document.querySelector('#stop').hidden"


def setUpModule():
    global FOLDER, SERVER
    if browser.PROGRAM is None:
        raise unittest.SkipTest("no chromium here (Debian: chromium)")
    FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-page-"))
    unittest.addModuleCleanup(shutil.rmtree, FOLDER, True)
    SERVER = Server(compile_served(FOLDER), "-t", 1, "--isa", "scalar")  # answers that a person can stop
    unittest.addModuleCleanup(SERVER.stop)


class Page(unittest.TestCase):
    def setUp(self):
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.opened = ["data:", "blob:"]
        self.browser.call("Page.addScriptToEvaluateOnNewDocument", source=FAKE)
        self.open(SERVER.url)

    def open(self, url):
        self.opened.append(url + "/")
        self.browser.open(url + "/")
        self.browser.wait("document.querySelector('#model').textContent !== '' || document.querySelector('#key').open")

    def tearDown(self):
        self.assertEqual(self.browser.violations, [])
        self.assertEqual(self.browser.errors, [])
        outside = [u for u in self.browser.requests if not u.startswith(tuple(self.opened))]
        self.assertEqual(outside, [])

    def send(self, text, answer=None, wait=True):
        b = self.browser
        if answer is not None:
            b.run(f"answers.push({json.dumps(answer)})")
        before = b.run("asked.length")
        b.click("#prompt")
        b.type(text)
        b.click("#send") if b.run("matchMedia('(pointer: coarse)').matches") else b.key("Enter")
        b.wait(f"asked.length > {before}")
        if wait:
            b.wait(DONE, 60)

    def settings(self, **values):
        b = self.browser
        b.click("#open-settings")
        for name, value in values.items():
            b.run(f"(() => {{ const i = document.querySelector('#set-{name}'); i.value = ''; i.focus(); }})()")
            b.type(str(value))
        b.key("Escape")
        self.assertFalse(b.run("document.querySelector('#settings').open"))


class Chatting(Page):
    def test_answers_are_shown_while_they_are_written(self):
        b = self.browser
        self.send("In parts", ["one", "wait", " two", "wait", " three"], wait=False)
        for text in ("one", "one two"):
            b.wait(f"{LAST}?.querySelector('.markdown').textContent.trim() === '{text}' && window.release !== undefined")
            self.assertFalse(b.run(DONE))
            b.run("(() => { const go = release; release = undefined; go(); })()")
        b.wait(DONE)
        self.assertEqual(b.run(f"{TEXT}.trim()"), "one two three")

    def test_answers_are_the_servers(self):
        b = self.browser
        self.settings(temperature=0, max_tokens=60)
        b.run("more = {ignore_eos: true}")
        self.send("In the beginning")
        want = SERVER.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "In the beginning"}], "temperature": 0,
                                                     "max_tokens": 60, "ignore_eos": True})[2]["choices"][0]["message"]["content"]
        self.assertEqual(b.run("(async () => { const s = await import('/web/store.js'); const c = s.load(s.list()[0].id); return s.branch(c).at(-1).content; })()"), want)
        self.assertEqual("".join(b.run(TEXT).split()), "".join(want.split()))
        stats = b.run(f"{LAST}.querySelector('.stats').textContent")
        self.assertRegex(stats, r"^[\d.,]+ tokens/s · first after [\d.,]+ m?s · 60 tokens$")
        self.assertRegex(b.run("document.querySelector('#usage').textContent"), r"^\d+ of [\d,]+ tokens$")
        self.assertIn("longest allowed length", b.run(f"{LAST}.textContent"))
        self.assertEqual(b.run("document.querySelector('#title').textContent"), "In the beginning")

    def test_stop_ends_the_request_and_continue_goes_on(self):
        b = self.browser
        b.run("more = {ignore_eos: true}")
        for stop in ("key", "button"):
            self.send("Tell me everything", wait=False)
            b.wait(f"{LAST}?.querySelector('.markdown').textContent.length > 20")
            self.assertEqual(SERVER.wait_for(lambda m: m["llrt:sequences_running"] == 1)["llrt:sequences_running"], 1)
            b.key("Escape") if stop == "key" else b.click("#stop")
            b.wait(DONE)
            SERVER.wait_for(lambda m: m["llrt:sequences_running"] == 0 and m["llrt:kv_pages_used"] == 0)
            self.assertIn("You stopped this answer", b.run(f"{LAST}.textContent"))
        half = b.run(TEXT)
        b.run("more = {max_tokens: 8}")
        b.run(f"{LAST}.querySelector('.note button').click()")
        b.wait(DONE)
        self.assertTrue(b.run(TEXT).startswith(half[:20]))
        self.assertEqual(b.run("asked.at(-1).continue_final_message"), True)
        self.assertEqual(b.run("asked.at(-1).messages.at(-1).role"), "assistant")

    def test_regenerate_keeps_the_earlier_answer(self):
        b = self.browser
        self.send("Q", ["one"])
        b.run("answers.push(['two'])")
        b.click('.message.assistant [aria-label="Answer again"]')
        b.wait(f"{DONE} && {TEXT} === 'two'")
        self.assertEqual(b.run("asked[1].messages"), [{"role": "user", "content": "Q"}])
        self.assertEqual(b.run(f"{LAST}.querySelector('.versions').textContent"), "2/2")
        b.click('.message.assistant [aria-label="Earlier version"]')
        self.assertEqual(b.run(TEXT), "one")
        self.send("R", ["three"])
        self.assertEqual([m["content"] for m in b.run("asked[2].messages")], ["Q", "one", "R"])

    def test_edit_begins_a_branch(self):
        b = self.browser
        self.send("first", ["A1"])
        self.send("second", ["A2"])
        b.run("document.querySelector('.message.user [aria-label=\"Edit message\"]').click()")
        self.assertEqual(b.run("document.activeElement.className"), "edit")
        b.run("document.activeElement.value = ''")
        b.type("changed")
        b.run("answers.push(['A3'])")
        b.key("Enter", CTRL)
        b.wait(f"{DONE} && {TEXT} === 'A3'")
        self.assertEqual(b.run("asked.at(-1).messages"), [{"role": "user", "content": "changed"}])
        self.assertEqual(b.run("document.querySelectorAll('.message').length"), 2)
        b.click('.message.user [aria-label="Earlier version"]')
        self.assertEqual(b.run("[...document.querySelectorAll('.message .body')].map((n) => n.textContent)"), ["first", "A1", "second", "A2"])
        # Escape leaves the message as it was, and ArrowUp in the empty field edits the last one.
        b.run("document.querySelector('#prompt').focus()")
        b.key("ArrowUp")
        b.type(" and more")
        b.key("Escape")
        self.assertEqual(b.run("[...document.querySelectorAll('.message.user .body')].at(-1).textContent"), "second")

    def test_settings_are_sent_and_kept(self):
        b = self.browser
        self.settings(temperature="0.5", top_p="0.9", top_k="7", min_p="0.1", repetition_penalty="1.1", max_tokens="5", seed="42", system="Be brief.")
        self.send("Q", ["A"])
        want = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1, "max_tokens": 5, "seed": 42}
        asked = b.run("asked[0]")
        self.assertEqual({k: asked[k] for k in want}, want)
        self.assertEqual(asked["messages"], [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}])
        self.open(SERVER.url)
        # What is out of range is said and not sent.
        b.click("#open-settings")
        b.run("document.querySelector('#set-temperature').focus()")
        b.run("document.querySelector('#set-temperature').value = ''")
        b.type("9")
        self.assertEqual(b.run("document.querySelector('#set-temperature').getAttribute('aria-invalid')"), "true")
        self.assertEqual(b.run("document.querySelector('#set-temperature-help').textContent"), "from 0 to 2")
        b.key("Escape")
        self.send("R", ["B"])
        self.assertEqual({k: b.run("asked[0]")[k] for k in want}, want)
        b.click("#open-settings")
        b.click("#set-reset")
        b.key("Escape")
        self.send("S", ["C"])
        self.assertEqual([k for k in want if k in b.run("asked[1]")], [])

    def test_conversations_outlive_the_page(self):
        b = self.browser
        self.send("one", ["**A**"])
        b.key("O", CTRL | SHIFT)
        self.assertEqual(b.run("document.querySelectorAll('.message').length"), 0)
        self.send("two", ["B"])
        self.open(SERVER.url)
        self.assertEqual(b.run("[...document.querySelectorAll('.message .body')].map((n) => n.textContent)"), ["two", "B"])
        self.assertEqual(b.run("[...document.querySelectorAll('.conversation')].map((n) => n.textContent)"), ["two", "one"])
        b.run("document.querySelectorAll('.conversation')[1].click()")
        self.assertEqual(b.run("document.querySelector('.markdown').innerHTML"), "<p><strong>A</strong></p>")
        # Deleted, and back again.
        b.run("document.querySelector('[aria-label=\"Delete one\"]').click()")
        self.assertEqual(b.run("[...document.querySelectorAll('.conversation')].map((n) => n.textContent)"), ["two"])
        b.run("document.querySelector('.toast button').click()")
        self.assertEqual(sorted(b.run("[...document.querySelectorAll('.conversation')].map((n) => n.textContent)")), ["one", "two"])
        b.run("document.querySelector('[aria-label=\"Rename one\"]').click()")
        b.type("uno")
        b.key("Enter")
        b.wait("document.querySelector('#title').textContent === 'uno'")
        # Exported, all deleted, imported.
        exported = b.run("import('/web/store.js').then((s) => s.exportAll())")
        b.click("#open-settings")
        b.click("#delete-all")
        b.click("#confirm-yes")
        b.wait("document.querySelectorAll('.conversation').length === 0")
        self.assertEqual(b.run("Object.keys(localStorage).filter((k) => k.startsWith('llrt.conversation.'))"), [])
        taken = b.run(f"import('/web/store.js').then((s) => s.importFile(new File([{json.dumps(exported)}], 'x.json')))")
        self.assertEqual(taken, {"taken": 2, "stored": True})
        self.open(SERVER.url)
        self.assertEqual(sorted(b.run("[...document.querySelectorAll('.conversation')].map((n) => n.textContent)")), ["two", "uno"])

    def test_a_deleted_conversation_does_not_come_back_with_its_answer(self):
        b = self.browser
        b.run("more = {ignore_eos: true}")
        self.send("going", wait=False)
        b.wait(f"{LAST}?.querySelector('.markdown').textContent.length > 5")
        b.run("document.querySelector('[aria-label=\"Delete going\"]').click()")
        SERVER.wait_for(lambda m: m["llrt:sequences_running"] == 0)
        self.assertEqual(b.run("import('/web/store.js').then((s) => s.list())"), [])

    def test_an_answer_goes_on_behind_another_conversation(self):
        b = self.browser
        self.send("slow", [f"w{i} " for i in range(150)], wait=False)
        b.key("O", CTRL | SHIFT)
        self.send("quick", ["yes"])
        self.assertEqual(b.run(TEXT), "yes")
        b.run("[...document.querySelectorAll('.conversation')].find((n) => n.textContent === 'slow').click()")
        b.wait(f"{TEXT}.includes('w149') && {DONE}")

    def test_damaged_storage_is_survived(self):
        b = self.browser
        self.send("good", ["A"])
        b.run("""(() => {
          const index = JSON.parse(localStorage["llrt.conversations"]);
          const bad = {bad1: "{", bad2: "null", bad3: '{"id":"bad3","nodes":{"a":{"role":"user","parent":"b","content":5},"b":{"role":"assistant","parent":"a"},"c":{"role":"evil"},"__proto__":null},"leaf":"a"}'};
          for (const [id, text] of Object.entries(bad)) {
            localStorage["llrt.conversation." + id] = text;
            index.unshift({id, title: id, updated: Date.now() + 1e6});
          }
          index.unshift(7, null, {id: "../x"});
          localStorage["llrt.conversations"] = JSON.stringify(index);
          localStorage["llrt.settings"] = '{"temperature":"hot","top_k":-5}';
        })()""")
        self.open(SERVER.url)
        for name in ("bad3", "bad2", "bad1", "good"):
            b.run(f"[...document.querySelectorAll('.conversation')].find((n) => n.textContent === '{name}')?.click()")
        self.assertEqual(b.run(TEXT), "A")
        self.send("more", ["B"])
        self.assertEqual([k for k in ("temperature", "top_k") if k in b.run("asked[0]")], [])

    def test_full_storage_is_said_and_survived(self):
        b = self.browser
        b.run("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }")
        self.send("Q", ["A"])
        self.assertFalse(b.run("document.querySelector('#storage-full').hidden"))
        b.key("O", CTRL | SHIFT)
        self.send("R", ["B"])
        b.run("[...document.querySelectorAll('.conversation')].find((n) => n.textContent === 'Q').click()")
        self.assertEqual(b.run(TEXT), "A")

    def test_reasoning_is_apart(self):
        b = self.browser
        delta = lambda **d: {"choices": [{"index": 0, "delta": d, "finish_reason": None}]}
        self.send("Q", [delta(reasoning_content="hm, "), delta(reasoning_content="**so**"), "42"])
        self.assertEqual(b.run("document.querySelector('.thoughts-text').innerHTML"), "<p>hm, <strong>so</strong></p>")
        self.assertFalse(b.run("document.querySelector('.thoughts').open"))
        self.assertEqual(b.run(TEXT), "42")
        self.send("R", ["43"])
        self.assertEqual([m["content"] for m in b.run("asked[1].messages")], ["Q", "42", "R"])

    def test_metrics_are_shown_live(self):
        b = self.browser
        b.run("more = {ignore_eos: true}")
        b.wait("document.querySelector('#mon-running').textContent === '0'")
        self.send("Q", wait=False)
        b.wait("document.querySelector('#mon-running').textContent === '1' && Number(document.querySelector('#mon-rate').textContent) > 0")
        self.assertRegex(b.run("document.querySelector('#mon-pages').textContent"), r"^[1-9][\d,]* used, [\d,]+ cached, of [\d,]+$")
        b.key("Escape")
        b.wait("document.querySelector('#mon-running').textContent === '0'")


class Failures(Page):
    def test_errors_say_what_to_do(self):
        b = self.browser
        error = lambda message, type="x": json.dumps({"error": {"message": message, "type": type}})
        for answer, words in [
                ({"status": 429, "body": error("busy"), "headers": {"Retry-After": "7"}}, "Try again in 7 s"),
                ({"status": 503, "body": error("loading")}, "Try again in a moment"),
                ({"status": 400, "body": error("This model's maximum context length is 10 tokens.")}, "Start a new one, or edit"),
                ({"status": 400, "body": error("Invalid <b>thing</b>.")}, "Invalid <b>thing</b>."),
                ({"status": 502, "body": "<html>proxy</html>"}, "Try again in a moment"),
                ({"status": 413, "body": ""}, "Start a new one"),
                ([{"error": {"message": "lost the device"}}], "lost the device"),
                ([], "ended its answer at once")]:
            self.send("Q", answer)
            self.assertIn(words, b.run("[...document.querySelectorAll('[role=alert]')].at(-1).textContent"))
        b.run("answers.push(['fine'])")
        b.run(f"[...{LAST}.querySelectorAll('.error button')].at(-1).click()")
        b.wait(f"{DONE} && {TEXT} === 'fine'")

    def test_a_server_that_is_gone_and_comes_back(self):
        b = self.browser
        server = Server(FOLDER / "served.llcp", "-t", 1)
        port = server.port
        self.open(server.url)
        server.stop()
        self.send("Q")
        self.assertIn("Is llrt serve still running?", b.run("document.querySelector('.error').textContent"))
        server = Server(FOLDER / "served.llcp", "-t", 1, port=port)
        self.addCleanup(server.stop)
        b.run("more = {max_tokens: 4}")
        b.click(".error button")
        b.wait(f"{DONE} && {TEXT}.length > 0")
        self.assertEqual(b.run("document.querySelectorAll('.error').length"), 0)

    def test_the_key_is_asked_for(self):
        b = self.browser
        with Server(FOLDER / "served.llcp", "-t", 1, env=dict(os.environ, LLRT_API_KEY="open sesame"[5:])) as server:
            self.open(server.url)
            b.wait("document.querySelector('#key').open")
            b.type("wrong")
            b.key("Enter")
            b.wait("document.querySelector('#key').open && document.querySelector('#key-note').textContent.includes('does not know')")
            b.run("document.querySelector('#key-value').focus()")
            b.type("sesame")
            b.key("Enter")
            b.wait("document.querySelector('#model').textContent !== ''")
            b.run("more = {max_tokens: 4}")
            self.send("Q")
            self.assertGreater(b.run(f"{TEXT}.length"), 0)
            self.assertEqual(b.run("Object.keys(localStorage).includes('llrt.key')"), False)
            b.run("Promise.resolve(sessionStorage.clear())")


HOSTILE = r"""<script>window.pwned = 1</script><img src=x onerror="window.pwned = 2">

<iframe src="https://evil.example/"></iframe>
[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) ![pic](https://evil.example/p.png) [x](JaVaScRiPt:alert(1)) [y](//evil.example/)
[vb](vbscript:x) [tab](java	script:alert) <https://ok.example/> [title](https://ok.example/a "say") <a href="javascript:window.pwned=5">z</a>
| a | <b>b</b> |
|---|---|
| <img src=https://evil.example/t.png onerror=window.pwned=6> | `<script>window.pwned=7</script>` |

```html"><script>window.pwned=8</script>
<script>window.pwned=9</script>
unclosed fence **not bold**
"""

# Markdown and the HTML that the page makes of it, without classes and code's frame.
CASES = [
    ("a *b* **c** ***d*** ~~e~~ `f*g*`", "<p>a <em>b</em> <strong>c</strong> <strong><em>d</em></strong> <s>e</s> <code>f*g*</code></p>"),
    ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
    ("**open and *mixed**", "<p><strong>open and *mixed</strong></p>"),
    ("**a", "<p>**a</p>"),
    ("\\*no\\* \\[x\\](y)", "<p>*no* [x](y)</p>"),
    ("``a ` b`` ` c", "<p><code>a ` b</code> ` c</p>"),
    ("# One\n###### Six ##\n#no", "<h3>One</h3><h6>Six</h6><p>#no</p>"),
    ("a\nb\n\nc", "<p>a<br>b</p><p>c</p>"),
    ("- a\n- b\n  - c\n    - d\n- e", "<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>"),
    ("3. a\n\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'),
    ("1. a\n   text\n2. b\n  - c", "<ol><li>a<br>text</li><li>b<ul><li>c</li></ul></li></ol>"),
    ("- [x] a\n- [ ] b", '<ul><li><input type="checkbox" disabled="" checked="" aria-label="done">a</li><li><input type="checkbox" disabled="" aria-label="to do">b</li></ul>'),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n***\nb\n---", "<p>a</p><hr><p>b</p><hr>"),
    ("|a|b|\n|:-|-:|\n|1|`x|y`|3|\n|2\\|2|\nend", "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><code>x|y</code></td></tr>"
     "<tr><td>2|2</td><td></td></tr></tbody></table></div><p>end</p>"),
    ("a | b", "<p>a | b</p>"),
    ("see https://a.example/x_(y). Or (http://b.example).", '<p>see <a href="https://a.example/x_(y)">https://a.example/x_(y)</a>. Or (<a href="http://b.example/">http://b.example</a>).</p>'),
    ("[**t**](https://a.example/(x)) [n](foo bar) [m](/rel)", '<p><a href="https://a.example/(x)"><strong>t</strong></a> [n](foo bar) m (/rel)</p>'),
    ("[[a](https://a.example)](https://b.example)", None),
    ("![alt](https://a.example/i.png)", '<p><a href="https://a.example/i.png">alt</a></p>'),
    ("<b>&amp;</b>", "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>"),
    ("~~~\n```\n~~~", "<pre>```</pre>"),
    ("```py\nx = 1\n```\nafter", "<pre>x = 1</pre><p>after</p>"),
    ("", ""), ("\n \n\t\n", ""), ("\r\na\r\rb\r\n", "<p>a</p><p>b</p>"),
]

RENDER = """
const {MarkdownView} = await import("/web/markdown.js");
const clean = (node) => {
  for (const code of node.querySelectorAll(".code")) { const pre = document.createElement("pre"); pre.textContent = code.querySelector("code").textContent; code.replaceWith(pre); }
  for (const n of node.querySelectorAll("*")) for (const a of ["class", "target", "rel", "title", "tabindex", "role", "scope"]) n.removeAttribute(a);
  for (const n of node.querySelectorAll("div[aria-label]")) n.removeAttribute("aria-label");
  return node.innerHTML;
};
const whole = (text) => { const d = document.createElement("div"); new MarkdownView(d).update(text); return clean(d); };
const grown = (text, step) => { const d = document.createElement("div"), v = new MarkdownView(d); for (let i = 0; i < text.length; i += step) v.update(text.slice(0, i)); v.update(text); return clean(d); };
"""


class Markdown(Page):
    def test_cases(self):
        got = self.browser.run(f"(async () => {{ {RENDER} return {json.dumps([c[0] for c in CASES])}.map(whole); }})()")
        for (text, want), html in zip(CASES, got):
            if want is not None:
                self.assertEqual(html, want, text)

    def test_text_that_grows_looks_as_text_that_came_at_once(self):
        texts = [c[0] for c in CASES] + ["\n\n".join(c[0] for c in CASES), HOSTILE]
        got = self.browser.run(f"(async () => {{ {RENDER} return {json.dumps(texts)}.map((t) => [whole(t), grown(t, 1), grown(t, 7)]); }})()")
        for text, (whole, by_one, by_seven) in zip(texts, got):
            self.assertEqual(by_one, whole, text)
            self.assertEqual(by_seven, whole, text)

    def test_hostile_text_does_nothing(self):
        b = self.browser
        self.send("Q", [HOSTILE[i:i + 5] for i in range(0, len(HOSTILE), 5)])
        self.assertIsNone(b.run("window.pwned ?? null"))
        self.assertEqual(b.run(f"{LAST}.querySelectorAll('script, iframe, img, object, embed, [onerror], [onclick], [style]').length"), 0)
        links = b.run(f"[...{LAST}.querySelectorAll('.markdown a')].map((a) => [a.protocol, a.target, a.rel])")
        self.assertGreater(len(links), 2)
        for protocol, target, rel in links:
            self.assertIn(protocol, ("https:", "http:", "mailto:"))
            self.assertEqual((target, rel), ("_blank", "noopener noreferrer nofollow ugc"))
        self.assertIn("<script>window.pwned = 1</script>", b.run(TEXT))
        self.assertIn("unclosed fence **not bold**", b.run(f"{LAST}.querySelector('pre').textContent"))
        # The same text of a user, a title and a system prompt.
        self.send("<img src=x onerror=window.pwned=10>", ["ok"])
        b.key("O", CTRL | SHIFT)
        self.send("<img src=x onerror=window.pwned=11>", ["ok"])
        self.assertIsNone(b.run("window.pwned ?? null"))

    def test_large_and_deep_texts_take_linear_time(self):
        # Quadratic work on these would take longer than the browser is waited for.
        texts = ["*" * 200_000, "_a " * 60_000, "[" * 200_000, "![" * 100_000, "[](" * 60_000, "[a](b" * 40_000, "`" * 3 + "a`" * 100_000,
                 " ".join("`" * (i % 400 + 1) for i in range(3000)), "> " * 50_000, "- " * 50_000, "1. " * 50_000, "\n".join("  " * i + "- x" for i in range(1500)),
                 "|a" * 30_000 + "\n" + "|-" * 30_000, "|a|b|\n|-|-|\n" + "|x|y|\n" * 30_000, "```\n" * 40_001, "#" * 200_000, " " * 200_000 + "x",
                 "https://" + "a." * 100_000, "(" * 100_000 + "https://a.example", "~~a" * 60_000, "\\" * 200_000, "*a_b~~c[" * 25_000, "-" * 200_000 + "x",
                 "```c\n" + "/*" * 20_000 + "\n```", '```c\n' + '"\\' * 20_000 + "\n```", "| " * 100_000, "a\n" * 100_000]
        for text in texts:
            self.browser.run(f"(async () => {{ {RENDER} whole({json.dumps(text)}); }})()")

    def test_copy_button_gives_the_code(self):
        b = self.browser
        b.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"], origin=SERVER.url)
        self.send("Q", ["```c\nint x = 1; // <b>\n```"])
        b.click(".copy-code")
        b.wait("document.querySelector('.copy-code').textContent === 'Copied'")
        self.assertEqual(b.run("navigator.clipboard.readText()"), "int x = 1; // <b>")


PAIRS = [("text", "ground"), ("text", "panel"), ("text", "raised"), ("text", "hover"), ("quiet", "ground"), ("quiet", "panel"), ("quiet", "raised"), ("quiet", "hover"),
         ("quiet", "code"), ("on-accent", "accent"), ("on-accent", "accent-strong"), ("on-tint", "tint"), ("accent-strong", "ground"), ("accent-strong", "raised"),
         ("accent-strong", "danger-tint"), ("text", "danger-tint"), ("danger", "raised"), ("danger", "ground"), ("danger", "danger-tint"), ("code-text", "code"),
         *[("hl-" + kind, "code") for kind in ("comment", "string", "number", "word", "call")]]


class Everybody(Page):
    def test_text_stands_out(self):
        b = self.browser
        for theme in ("light", "dark"):
            b.run(f"document.documentElement.dataset.theme = '{theme}'")
            for front, back in PAIRS:
                ratio = b.run(f"""(() => {{
                  const probe = document.body.appendChild(document.createElement("i"));
                  const light = (name) => {{
                    probe.style.color = `var(--${{name}})`;
                    const c = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] + 0.05;
                  }};
                  const a = light("{front}"), b = light("{back}");
                  probe.remove();
                  return Math.max(a, b) / Math.min(a, b);
                }})()""")
                self.assertGreaterEqual(ratio, 4.5, (theme, front, back))

    def test_everything_has_a_name(self):
        b = self.browser
        self.send("Q", ["# Title\n```py\nx\n```\n|a|\n|-|\n|b|\n\n- [ ] task https://a.example/"])
        for state in ("page", "settings"):
            if state == "settings":
                b.click("#open-settings")
            tree = b.tree()
            nameless = [node for node in tree if node[0] in ("button", "textbox", "link", "spinbutton", "checkbox", "dialog", "image", "region", "log", "navigation",
                                                             "complementary", "searchbox", "combobox", "group") and not node[1].strip() and node[0] != "group"]
            self.assertEqual(nameless, [])
            if state == "page":
                for node in [("textbox", "Message"), ("button", "Send"), ("button", "Settings"), ("button", "New conversation"), ("log", "Messages"), ("article", "Answer"),
                             ("button", "Copy code (py)"), ("region", "Table"), ("complementary", "Conversations"), ("main", ""), ("button", "Answer again"), ("heading", "Q")]:
                    self.assertIn(node, tree)
            else:
                for node in [("dialog", "Settings"), ("textbox", "System prompt"), ("spinbutton", "Temperature"), ("button", "Close")]:
                    self.assertIn(node, tree)

    def test_keyboard_alone(self):
        b = self.browser
        self.assertEqual(b.run("document.activeElement.id"), "prompt")
        b.run("answers.push(['A'])")
        b.type("Q")
        b.key("Enter", SHIFT)
        b.type("R")
        b.key("Enter")
        b.wait(f"{DONE} && {TEXT} === 'A'")
        self.assertEqual(b.run("asked[0].messages[0].content"), "Q\nR")
        self.assertEqual(b.run("document.activeElement.id"), "prompt")
        self.assertIn("Answer: A", b.run("document.querySelector('#announcer').textContent"))
        # Every control is reached, in the order of the page, and can be seen.
        b.run("document.querySelector('.skip').focus()")
        seen = []
        for _ in range(40):
            b.key("Tab")
            here = b.run("""(() => { const a = document.activeElement; if (a === document.body) return null;
              const r = a.getBoundingClientRect(); const s = getComputedStyle(a);
              return [a.id || a.getAttribute("aria-label") || a.textContent.trim(), r.width > 0 && r.height > 0 && s.opacity > 0 && s.outlineStyle !== "none" || a.id === "prompt"]; })()""")
            if here is None:
                break
            seen.append(here[0])
            self.assertTrue(here[1], f"{here[0]} has the focus and does not show it")
        order = [seen.index(name) for name in ("new", "Q R", "theme", "open-settings", "Copy message", "Answer again", "prompt")]
        self.assertEqual(order, sorted(order), seen)
        # Dialogs keep the focus and give it back.
        b.run("document.querySelector('#open-settings').focus()")
        b.key("Enter")
        self.assertTrue(b.run("document.querySelector('#settings').contains(document.activeElement)"))
        b.key("Escape")
        self.assertEqual(b.run("document.activeElement.id"), "open-settings")
        b.key("/")
        self.assertEqual(b.run("document.activeElement.id"), "prompt")

    def test_a_phone_360_pixels_wide(self):
        b = self.browser
        b.size(360, 640, phone=True)
        self.open(SERVER.url)
        wide = "|" + "column heading|" * 12 + "\n|" + "-|" * 12 + "\n|" + "some value|" * 12
        self.send("W" * 300, [f"{wide}\n\n```c\n{'x' * 500}\n```\n\n{'word' * 200}\n\n`{'code' * 100}` https://a.example/{'u' * 300}\n\n# {'H' * 100}\n\n" + "> " * 8 + "deep\n\n" + "\n".join("  " * i + "- item" for i in range(12))])
        for theme in ("light", "dark"):
            b.media(prefers_color_scheme=theme)
            self.assertEqual(b.run("[document.documentElement.scrollWidth, document.querySelector('#scroll').scrollWidth <= innerWidth]"), [360, True])
        outside = b.run("""[...document.querySelectorAll("#main button, #main textarea")].filter((n) => n.checkVisibility()).map((n) => [n, n.getBoundingClientRect()])
          .filter(([n, r]) => r.right > 361 || r.left < -1 || r.width < 24 || r.height < 24).filter(([n]) => !n.closest(".code-head, .link-button, .note")).map(([n]) => n.outerHTML.slice(0, 80))""")
        self.assertEqual(outside, [])
        b.click("#open-sidebar")
        b.wait("document.querySelector('#sidebar').getBoundingClientRect().left >= 0")
        self.assertTrue(b.run("document.querySelector('#main').inert && !document.querySelector('#sidebar').inert"))
        b.key("Escape")
        self.assertTrue(b.run("!document.querySelector('#main').inert && document.querySelector('#sidebar').inert"))
        self.assertEqual(b.run("document.activeElement.id"), "open-sidebar")
        b.click("#open-settings")
        self.assertLessEqual(b.run("document.querySelector('#settings').scrollWidth"), 360)
        b.key("Escape")
        # Enter begins a line where there is no Shift key.
        b.click("#prompt")
        b.type("a")
        b.key("Enter")
        self.assertEqual(b.run("asked.length"), 1)

    def test_colours_follow_the_system_and_the_switch(self):
        b = self.browser
        ground = "getComputedStyle(document.body).backgroundColor"
        b.media(prefers_color_scheme="light")
        light = b.run(ground)
        b.media(prefers_color_scheme="dark")
        dark = b.run(ground)
        self.assertNotEqual(light, dark)
        b.click("#theme")
        self.assertEqual(b.run(ground), light)
        self.open(SERVER.url)
        self.assertEqual(b.run(ground), light)
        b.click("#theme")
        b.media(prefers_color_scheme="light")
        self.assertEqual(b.run(ground), dark)
        b.click("#theme")
        self.assertEqual(b.run(ground), light)
        self.assertEqual(b.run("document.querySelector('#theme').getAttribute('aria-label')"), "Colours: system")


class Files(unittest.TestCase):
    def test_headers_and_revalidation(self):
        status, headers, body = SERVER.get("/")
        self.assertEqual((status, headers["Cache-Control"], headers["Content-Type"]), (200, "no-cache", "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertNotIn("unsafe", headers["Content-Security-Policy"])
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        status, again, empty = SERVER.get("/", **{"If-None-Match": headers["ETag"]})
        self.assertEqual((status, empty, again["ETag"]), (304, b"", headers["ETag"]))
        self.assertNotIn("Content-Length", again)
        status, head, empty = SERVER.request("HEAD", "/web/main.js")
        self.assertEqual((status, empty, head["Content-Type"]), (200, b"", "text/javascript; charset=utf-8"))
        for path in ("/web/", "/web/nothing.js", "/web/../main.js", "/web/%2e%2e/main.js", "/web/index.html/"):
            self.assertEqual(SERVER.get(path)[0], 404, path)
        self.assertEqual(SERVER.post("/web/main.js", {})[0], 405)


if __name__ == "__main__":
    unittest.main()
