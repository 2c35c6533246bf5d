// Elements, storage and requests. `safeHtml` is the one place where HTML text becomes nodes.

/** An element with attributes (`on...`: a listener), and children that are elements or plain text. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** The path below which a proxy publishes this server, or "". */
const ROOT = document.querySelector('meta[name="rankloop-root"]')?.content ?? "";

/** A path of this server as a browser finds it. */
function at(path) {
  return ROOT + path;
}

/** An element that shows HTML which the server has sanitised (an `html` field of the API), and nothing else. */
function safeHtml(tag, attributes, html) {
  const node = make(tag, attributes);
  const parsed = document.createElement("template"); // nothing in it is loaded yet
  parsed.innerHTML = html;
  for (const image of parsed.content.querySelectorAll('img[src^="/"]')) image.setAttribute("src", at(image.getAttribute("src")));
  node.append(parsed.content);
  return node;
}

/** A value kept on this device, or null. */
function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

/** Keep a value on this device (null: forget it); false if the browser refuses. */
function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Keys kept on this device that begin with `prefix`, in order. */
function remembered(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix)).sort();
  } catch {
    return [];
  }
}

/** 128 random bits; `crypto.randomUUID` is missing where the page came over plain http. */
function newNonce() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** {status, data}; status 0 if no answer came, or a "yes" that is not ours. GET without `body`, else POST. */
async function request(path, body) {
  const options = { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(20000), cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  try {
    const reply = await fetch(at(path), options);
    const data = await reply.json().catch(() => null);
    return { status: reply.ok && data === null ? 0 : reply.status, data: data ?? {} };
  } catch {
    return { status: 0, data: {} };
  }
}

/** The end of an address that is about a study (its id; null: the one that is worked in first). */
function ofStudy(study) {
  return study ? `?study=${encodeURIComponent(study)}` : "";
}

/** No answer, or one that says "not now". */
function isOutage(reply) {
  return reply.status === 0 || reply.status >= 500 || reply.status === 429 || reply.status === 408;
}

/** Milliseconds until the next try: 0.5, 1, 2, then 4 s, spread so that annotators do not return all at once. */
function backOff(attempt) {
  return 500 * 2 ** Math.min(attempt, 3) * (0.8 + 0.4 * Math.random());
}

function goToLogin() {
  location.assign(at("/login?next=") + encodeURIComponent(location.pathname.slice(ROOT.length)));
}

function clockTime() {
  return new Date().toTimeString().slice(0, 8);
}
