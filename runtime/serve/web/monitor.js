// What the server does right now, from /metrics.
import { $, number, svg } from "./dom.js";
import { getText, ApiError } from "./api.js";

const EVERY = 1500, SAMPLES = 60;

// name -> sum of its samples. Enough of the text format for values without labels that matter.
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line[0] === "#") continue;
    const space = line.lastIndexOf(" "), brace = line.indexOf("{");
    const name = line.slice(0, brace > 0 ? brace : space), value = Number(line.slice(space + 1));
    if (Number.isFinite(value)) values.set(name, (values.get(name) ?? 0) + value);
  }
  return values;
}

function sparkline(rates) {
  const most = Math.max(...rates, 1), width = 240, height = 40;
  const points = rates.map((r, i) => `${(i / (SAMPLES - 1) * width).toFixed(1)},${(height - 2 - r / most * (height - 4)).toFixed(1)}`).join(" ");
  return [svg("polygon", { class: "area", points: `0,${height} ${points} ${width},${height}` }), svg("polyline", { class: "line", points })];
}

export function setUpMonitor() {
  let before = null, timer = 0, rates = new Array(SAMPLES).fill(0), busy = false;
  const panel = $("monitor");

  const show = (m, now) => {
    const running = m.get("llrt:sequences_running") ?? 0;
    const waiting = (m.get("llrt:sequences_waiting") ?? 0) + (m.get("llrt:requests_preparing") ?? 0);
    const pages = m.get("llrt:kv_pages") ?? 0, used = m.get("llrt:kv_pages_used") ?? 0, cached = m.get("llrt:kv_pages_cached") ?? 0;
    const tokens = m.get("llrt:step_rows_total") ?? 0;
    const rate = before && tokens >= before.tokens ? (tokens - before.tokens) / ((now - before.now) / 1000) : 0;
    before = { tokens, now };
    rates = [...rates.slice(1), rate];
    $("mon-running").textContent = number(running);
    $("mon-waiting").textContent = number(waiting);
    $("mon-rate").textContent = number(rate, rate < 10 ? 1 : 0);
    $("mon-pages").textContent = `${number(used)} used, ${number(cached)} cached, of ${number(pages)}`;
    const share = (x) => `${pages > 0 ? Math.min(100, x / pages * 100) : 0}%`;
    $("mon-used").style.width = share(used);
    $("mon-cached").style.width = share(cached);
    $("mon-spark").replaceChildren(...sparkline(rates));
    $("mon-state").textContent = "";
  };

  const poll = async () => {
    clearTimeout(timer);
    timer = 0;
    if (!panel.open || document.hidden || busy) return;
    busy = true;
    try {
      show(parseMetrics(await getText("/metrics")), performance.now());
    } catch (error) {
      before = null;
      $("mon-state").textContent = error instanceof ApiError && error.kind === "key" ? "needs the API key" : "no answer from the server";
    }
    busy = false;
    if (timer === 0) timer = setTimeout(poll, EVERY);
  };
  panel.addEventListener("toggle", poll);
  document.addEventListener("visibilitychange", poll);
  poll();
}
