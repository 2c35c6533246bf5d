// Skip and key map.

const SKIP_REASONS = [
  "I do not know the subject well enough",
  "I cannot judge this language",
  "The prompt makes no sense",
  "Something is not displayed properly",
  "The content is disturbing",
];

const KEY_MAP = [
  ["1 … 9", "give the focused response that rank; the same rank on two responses is a tie; once more takes it away"],
  ["Tab, arrows", "move between responses"],
  ["Enter", "submit, when every response has a rank"],
  ["Alt + U", "undo the last submit or skip"],
  ["Alt + S", "skip, with a reason"],
  ["Alt + K", "single keys (digits, Enter) on or off; when off: ← → choose a rank, Space sets it, ↑ ↓ change the response"],
  ["Alt + R", "raw text of the focused response"],
  ["Alt + H", "this list"],
];

function dialog(title, ...children) {
  const box = make("dialog", { class: "rb-dialog", "aria-label": title }, make("h2", {}, title), ...children);
  box.addEventListener("click", (event) => event.target === box && box.close());
  return box;
}

/** A dialog that calls `onReason(text)`. */
function skipDialog(onReason) {
  const done = (reason) => {
    if (!reason.trim()) return;
    box.close();
    onReason(reason.trim());
  };
  const field = make("input", { type: "text", maxlength: "500", placeholder: "Another reason", "aria-label": "Another reason" });
  const form = make("form", { class: "rb-reason", onsubmit: (event) => (event.preventDefault(), done(field.value)) },
    field, make("button", { type: "submit", class: "rb-button" }, "Skip"));
  const quick = SKIP_REASONS.map((reason) =>
    make("button", { type: "button", class: "rb-choice", onclick: () => done(reason) }, reason));
  const box = dialog("Why skip this one?", make("div", { class: "rb-choices" }, ...quick), form,
    make("button", { type: "button", class: "rb-quiet", onclick: () => box.close() }, "Do not skip (Esc)"));
  return { node: box, open: () => ((field.value = ""), box.showModal()) };
}

function keyDialog() {
  const rows = KEY_MAP.map(([keys, what]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, what)));
  const box = dialog("Keys", make("table", { class: "rb-keys" }, make("tbody", {}, ...rows)),
    make("button", { type: "button", class: "rb-button", onclick: () => box.close() }, "Close"));
  return { node: box, open: () => box.showModal() };
}
