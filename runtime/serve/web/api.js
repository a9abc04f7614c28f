// Requests to the server that the page came from.

// What went wrong in words of what to do. kind: "key", "network", "busy", "long", "loading", "other".
export class ApiError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

const KEY = "llrt.key";
let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";
} catch {
  // Storage is switched off: the key lives as long as the page.
}

export const hasKey = () => key !== "";

export function setKey(value, remember) {
  key = value.trim();
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    if (key !== "") (remember ? localStorage : sessionStorage).setItem(KEY, key);
  } catch {
    // As above.
  }
}

function headers() {
  return key === "" ? {} : { Authorization: `Bearer ${key}` };
}

async function failure(response) {
  let message = "", type = "";
  try {
    const body = await response.json();
    message = body.error?.message ?? "";
    type = body.error?.type ?? "";
  } catch {
    // Not JSON: a proxy's own page, perhaps.
  }
  const said = message === "" ? "" : ` The server says: ${message}`;
  switch (response.status) {
    case 401:
      return new ApiError("key", key === "" ? "This server wants an API key." : "The server does not know this API key.");
    case 403:
      return new ApiError("other", `The server refuses this page's address. Start it with --allow-host ${location.hostname}, or open it at http://127.0.0.1.${said}`);
    case 408:
      return new ApiError("other", "The answer took longer than the server allows (llrt serve --request-timeout). Ask for a shorter one.");
    case 413:
      return new ApiError("long", "The conversation is larger than the server takes in one request. Start a new one.");
    case 429:
      return new ApiError("busy", `The server is busy. Try again in ${response.headers.get("Retry-After") ?? "a few"} s.`);
    case 502:
    case 503:
    case 504:
      return new ApiError("loading", `The server is loading the model or shutting down. Try again in a moment.${said}`);
    default:
      if (type === "exceed_context_size_error" || /maximum context length/.test(message)) {
        return new ApiError("long", `The conversation does not fit into the model's context any more. Start a new one, or edit an early message to make it shorter.${said}`);
      }
      return new ApiError("other", message === "" ? `The server answered with status ${response.status}.` : message);
  }
}

const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", cache: "no-store", ...options,
      headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("network", "The server does not answer. Is llrt serve still running? Start it again, then retry.");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export const getJson = async (path) => (await request(path, {})).json();
export const getText = async (path, signal) => (await request(path, { signal })).text();

// The data of server-sent events, one string an event.
export async function* serverEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = [];
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      let at = 0;
      while (true) {
        const end = rest.indexOf("\n", at);
        if (end < 0) break;
        const line = rest.slice(at, rest[end - 1] === "\r" ? end - 1 : end);
        at = end + 1;
        if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      rest = rest.slice(at);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Streams an answer. `onEvent` gets each event's object; resolves when the server has said that it is done.
export async function stream(path, body, signal, onEvent) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } }),
    signal,
  });
  try {
    for await (const data of serverEvents(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError("other", `The server ended the answer: ${event.error.message ?? "it does not say why"}`);
      onEvent(event);
    }
  } catch (error) {
    if (isAbort(error) || error instanceof ApiError) throw error;
    throw new ApiError("network", "The connection was lost before the answer ended. Retry when the server is back.");
  }
  throw new ApiError("network", "The answer broke off: the server closed the connection. Retry when it is back.");
}
