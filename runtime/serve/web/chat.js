// The conversation on the screen: its messages, and the answer that is being written.
import { $, announce, copyText, el, icon, iconButton, number } from "./dom.js";
import { stream } from "./api.js";
import { MarkdownView } from "./markdown.js";
import { requestFields } from "./settings.js";
import * as store from "./store.js";

const SAVE_EVERY = 1000;      // ms, while an answer is being written
const MOST_SPOKEN = 600;      // characters of an answer that are read out when it is complete
const SUGGESTIONS = ["Explain what you can help me with.", "Write a short poem about the sea.", "In the beginning", "Give me three ideas for a rainy day."];

const NOTES = {
  length: "The answer reached its longest allowed length.",
  stopped: "You stopped this answer.",
};

function statsText(stats) {
  const parts = [];
  if (stats.rate > 0) parts.push(`${number(stats.rate, stats.rate < 10 ? 1 : 0)} tokens/s`);
  parts.push(stats.first < 1000 ? `first after ${number(stats.first)} ms` : `first after ${number(stats.first / 1000, 1)} s`);
  if (stats.tokens > 0) parts.push(`${number(stats.tokens)} tokens`);
  return parts.join(" · ");
}

// `page`: {settings, model(), conversation(), changed(), askKey()}. `changed` stores the conversation and shows its title.
export class Chat {
  #page;
  #place = $("messages");
  #views = new Map();    // node id -> {article, body, ...}
  #running = new Map();  // conversation id -> {controller, node, conversation}

  constructor(page) {
    this.#page = page;
    const scroller = $("scroll");
    scroller.addEventListener("scroll", () => {
      $("to-end").hidden = this.#atEnd();
    }, { passive: true });
    $("to-end").addEventListener("click", () => {
      this.#toEnd();
      $("prompt").focus();
    });
  }

  // Whether the conversation shown is being answered.
  get busy() {
    return this.#running.has(this.#page.conversation().id);
  }
  // The conversation if it is being answered, shown or not.
  answering(id) {
    return this.#running.get(id)?.conversation;
  }
  allAnswering() {
    return [...this.#running.values()].map((r) => r.conversation);
  }
  stop(id = this.#page.conversation().id) {
    this.#running.get(id)?.controller.abort();
  }
  #isRunning(node) {
    return this.#running.get(this.#page.conversation().id)?.node === node;
  }

  #atEnd() {
    const s = $("scroll");
    return s.scrollHeight - s.scrollTop - s.clientHeight < 80;
  }

  #toEnd() {
    const s = $("scroll");
    s.scrollTop = s.scrollHeight;
    $("to-end").hidden = true;
  }

  // Shows the conversation from the start.
  render() {
    const conversation = this.#page.conversation();
    this.#views.clear();
    const path = store.branch(conversation);
    this.#place.replaceChildren(...(path.length === 0 ? [this.#welcome()] : path.map((n) => this.#article(n).article)));
    this.#usage(path.findLast((n) => n.stats)?.stats);
    this.#toEnd();
  }

  #welcome() {
    const model = this.#page.model();
    const asks = SUGGESTIONS.map((text) => el("button", { type: "button", class: "suggestion", onclick: () => this.send(text) }, text));
    return el("div", { class: "welcome" }, el("div", { class: "welcome-mark" }, icon("logo")), el("h2", {}, "What is on your mind?"),
      el("p", {}, model.chat ? `${model.name || "The model"} runs on this server. Nothing leaves it.`
        : `${model.name || "The model"} has no chat template: it continues what you write.`),
      el("div", { class: "suggestions" }, ...asks));
  }

  #usage(stats) {
    const most = this.#page.model().context, used = stats ? stats.prompt + stats.tokens : 0;
    $("usage").textContent = most > 0 && used > 0 ? `${number(used)} of ${number(most)} tokens` : "";
    $("usage").classList.toggle("near-full", most > 0 && used > 0.9 * most);
  }

  // ---- One message ----

  #article(node) {
    const user = node.role === "user";
    const body = el("div", { class: "body" });
    const tools = el("div", { class: "tools" });
    const foot = el("div", { class: "foot" });
    const article = el("article", { class: `message ${node.role}`, "aria-label": user ? "You" : "Answer", "data-id": node.id },
      user ? null : el("div", { class: "avatar", "aria-hidden": "true" }, icon("logo")),
      el("div", { class: "content" }, el("h2", { class: "visually-hidden" }, user ? "You said" : "Answer"), body, foot, tools));
    const view = { article, body, foot, tools, node, markdown: null, thoughts: null };
    this.#views.set(node.id, view);
    if (user) {
      body.textContent = node.content;
    } else {
      this.#fill(view);
    }
    this.#fillTools(view);
    return view;
  }

  // What an answer says so far.
  #fill(view) {
    const { node, body } = view;
    if (node.reasoning) {
      if (!view.thoughts) {
        const text = el("div", { class: "thoughts-text" });
        const label = el("span", {}, "Thoughts");
        view.thoughts = { box: el("details", { class: "thoughts" }, el("summary", {}, icon("chevron"), label), text), text, label };
        body.prepend(view.thoughts.box);
        view.thoughts.markdown = new MarkdownView(text);
        view.thoughts.box.open = this.#isRunning(node) && node.content === "";
      }
      view.thoughts.markdown.update(node.reasoning);
    }
    if (!view.markdown) {
      const text = el("div", { class: "markdown" });
      body.append(text);
      view.markdown = new MarkdownView(text);
    }
    view.markdown.update(node.content);
    body.classList.toggle("waiting", this.#isRunning(node) && node.content === "" && !node.reasoning);
  }

  #fillTools(view) {
    const { node, tools, foot } = view;
    const conversation = this.#page.conversation();
    const running = this.#isRunning(node);
    view.article.setAttribute("aria-busy", String(running));
    foot.replaceChildren();
    tools.replaceChildren();
    if (node.error) {
      foot.append(el("div", { class: "error", role: "alert" }, icon("alert"), el("span", {}, node.error.message),
        node.error.kind === "key" ? el("button", { type: "button", class: "link-button", onclick: () => this.#page.askKey() }, "Enter the key") : null,
        el("button", { type: "button", class: "link-button", onclick: () => this.retry(node) }, "Retry")));
    } else if (NOTES[node.finish]) {
      foot.append(el("div", { class: "note" }, NOTES[node.finish], " ",
        el("button", { type: "button", class: "link-button", onclick: () => this.resume(node) }, "Continue")));
    }
    if (running) return;
    const all = store.siblings(conversation, node);
    if (all.length > 1) {
      const at = all.indexOf(node);
      const go = (to) => {
        if (this.busy) return;
        store.show(conversation, all[to]);
        this.#page.changed();
        this.render();
        const shown = this.#views.get(all[to].id).article;
        shown.scrollIntoView({ block: "nearest" });
        shown.querySelector(`.versions button:${to > at ? "last" : "first"}-of-type`)?.focus();
      };
      tools.append(el("div", { class: "versions", role: "group", "aria-label": "Versions" },
        iconButton("left", "Earlier version", () => at > 0 && go(at - 1), { "aria-disabled": String(at === 0) }),
        el("span", { "aria-label": `version ${at + 1} of ${all.length}` }, `${at + 1}/${all.length}`),
        iconButton("right", "Later version", () => at + 1 < all.length && go(at + 1), { "aria-disabled": String(at + 1 === all.length) })));
    }
    const copy = iconButton("copy", "Copy message", async () => {
      announce((await copyText(node.content)) ? "Copied" : "Not copied");
      copy.classList.add("done");
      setTimeout(() => copy.classList.remove("done"), 1200);
    });
    tools.append(copy);
    if (node.role === "user") tools.append(iconButton("edit", "Edit message", () => this.edit(node)));
    else tools.append(iconButton("again", "Answer again", () => this.regenerate(node)));
    if (node.stats) tools.append(el("span", { class: "stats" }, statsText(node.stats)));
  }

  // ---- What people do ----

  send(content) {
    if (this.busy || content.trim() === "") return;
    const conversation = this.#page.conversation();
    if (conversation.title === "") conversation.title = content.trim().replace(/\s+/g, " ").slice(0, 60);
    const node = store.append(conversation, conversation.leaf, "user", content);
    if (this.#views.size === 0) this.#place.replaceChildren();
    this.#place.append(this.#article(node).article);
    this.#answer(node.id);
  }

  edit(node) {
    if (this.busy) return;
    const view = this.#views.get(node.id);
    const area = el("textarea", { class: "edit", "aria-label": "Edit message", rows: Math.min(12, node.content.split("\n").length + 1) });
    area.value = node.content;
    const close = () => {
      view.article.classList.remove("editing");
      view.body.textContent = node.content;
      view.tools.querySelector('[aria-label="Edit message"]')?.focus();
    };
    const submit = () => {
      const conversation = this.#page.conversation();
      if (this.busy || area.value.trim() === "") return;
      if (area.value === node.content) return close();
      const changed = store.append(conversation, node.parent, "user", area.value);
      this.render();
      $("prompt").focus();
      this.#answer(changed.id);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    });
    view.article.classList.add("editing");
    view.body.replaceChildren(area, el("div", { class: "edit-actions" }, el("button", { type: "button", onclick: close }, "Cancel"),
      el("button", { type: "button", class: "primary", onclick: submit }, "Send")));
    area.focus();
  }

  editLast() {
    const last = store.branch(this.#page.conversation()).findLast((n) => n.role === "user");
    if (last) this.edit(last);
  }

  // Another answer beside this one.
  regenerate(node) {
    if (this.busy || node.parent === null) return;
    const conversation = this.#page.conversation();
    conversation.leaf = node.parent;
    this.render();
    this.#answer(node.parent);
  }

  // A failed answer is replaced.
  retry(node) {
    if (this.busy || node.parent === null) return;
    if (node.content !== "") return this.regenerate(node);
    const conversation = this.#page.conversation();
    delete conversation.nodes[node.id];
    conversation.leaf = node.parent;
    this.render();
    this.#answer(node.parent);
  }

  resume(node) {
    if (!this.busy) this.#answer(node.parent, node);
  }

  // ---- Answers ----

  #request(conversation, parent, continued) {
    const path = [];
    for (let n = conversation.nodes[parent]; n; n = conversation.nodes[n.parent]) path.unshift(n);
    const fields = requestFields(this.#page.settings);
    if (!this.#page.model().chat) {
      const texts = path.map((n) => n.content);
      if (continued) texts.push(continued.content);
      return ["/v1/completions", { ...fields, max_tokens: fields.max_tokens ?? 512, prompt: texts.join("") }];
    }
    const messages = path.filter((n) => n.content !== "").map((n) => ({ role: n.role, content: n.content }));
    if (conversation.system.trim() !== "") messages.unshift({ role: "system", content: conversation.system });
    const body = { ...fields, messages };
    if (continued && continued.content !== "") {
      messages.push({ role: "assistant", content: continued.content });
      body.add_generation_prompt = false;
      body.continue_final_message = true;
    }
    return ["/v1/chat/completions", body];
  }

  async #answer(parent, continued = null) {
    const conversation = this.#page.conversation();
    const node = continued ?? store.append(conversation, parent, "assistant", "");
    delete node.error;
    delete node.finish;
    const running = { controller: new AbortController(), node, conversation };
    this.#running.set(conversation.id, running);
    const view = this.#views.get(node.id) ?? this.#article(node);
    if (!view.article.isConnected) this.#place.append(view.article);
    this.#fill(view);
    this.#fillTools(view);
    this.#page.changed();
    this.#toEnd();
    announce("The answer is being written.");

    // Times are taken when events arrive, not when they are drawn.
    const begun = performance.now();
    let first = 0, last = 0, tokens = 0, prompt = 0, drawn = 0, cost = 0, frame = 0, saved = begun;
    const stats = () => ({ first: first ? first - begun : 0, tokens, prompt, rate: tokens > 1 && last > first ? (tokens - 1) / ((last - first) / 1000) : 0 });
    const draw = () => {
      frame = 0;
      const now = performance.now();
      // Long texts take longer to draw than a frame lasts: then less often, so that the page stays responsive.
      if (now - drawn < 4 * cost) {
        frame = requestAnimationFrame(draw);
        return;
      }
      // The answer goes on while another conversation is shown; back in this one it has other nodes.
      const shown = this.#views.get(node.id);
      if (shown) {
        const follow = this.#atEnd();
        this.#fill(shown);
        shown.foot.replaceChildren(el("span", { class: "stats live" }, first ? statsText(stats()) : ""));
        if (follow) this.#toEnd();
      }
      drawn = performance.now();
      cost = drawn - now;
      if (drawn - saved > SAVE_EVERY) {
        saved = drawn;
        this.#page.changed(conversation);
      }
    };
    const take = (event) => {
      const choice = event.choices?.[0];
      const said = choice?.delta?.content ?? choice?.text ?? "", thought = choice?.delta?.reasoning_content ?? "";
      if (event.usage) {
        tokens = event.usage.completion_tokens ?? tokens;
        prompt = event.usage.prompt_tokens ?? prompt;
      }
      if (said !== "" || thought !== "") {
        last = performance.now();
        if (first === 0) first = last;
        if (!event.usage) ++tokens;
        if (thought !== "") node.reasoning = (node.reasoning ?? "") + thought;
        node.content += said;
        if (said !== "" && node.content === said) this.#views.get(node.id)?.thoughts?.box.removeAttribute("open");
      }
      if (choice?.finish_reason) node.finish = choice.finish_reason;
      // Hidden pages get no frames, and nobody looks.
      if (frame === 0) frame = requestAnimationFrame(draw);
    };
    try {
      const [path, body] = this.#request(conversation, parent, continued);
      await stream(path, body, running.controller.signal, take);
      if (node.content === "" && !node.reasoning) node.error = { kind: "other", message: "The model ended its answer at once. Ask in other words, or change the settings." };
    } catch (error) {
      if (running.controller.signal.aborted) node.finish = "stopped";
      else node.error = { kind: error.kind ?? "other", message: error.message };
      if (error.kind === "key") this.#page.askKey();
    }
    cancelAnimationFrame(frame);
    if (first) node.stats = stats();
    conversation.updated = Date.now();
    this.#running.delete(conversation.id);
    this.#page.changed(conversation);
    const shown = this.#views.get(node.id);
    if (shown) {
      const follow = this.#atEnd();
      this.#fill(shown);
      this.#fillTools(shown);
      this.#usage(node.stats);
      if (follow) this.#toEnd();
    }
    const words = node.content.split(/\s+/).filter(Boolean).length;
    if (!node.error) announce(node.content.length <= MOST_SPOKEN ? `Answer: ${node.content}` : `The answer is complete: ${words} words.`);
  }
}
