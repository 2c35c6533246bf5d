// Skip, key map, and the question whether an order that is as shown is meant.

const MY_REASONS = ["skip.subject", "skip.language", "skip.disturbing"];
const NOBODYS_REASONS = ["skip.senseless", "skip.display", "skip.identical"];

function keyMap() {
  return [
    ["1 … 9", t("keys.digits")], ["1, 2", t("keys.bestWorst")], ["1 … 4, 0", t("keys.pairwise")], [t("keys.moveKeys"), t("keys.move")],
    ["Enter", t("keys.submit")], ["Alt + U", t("keys.undo")], ["Alt + S", t("keys.skip")], ["Alt + B", t("keys.allBad")],
    ["Alt + F", t("keys.flags")], ["Alt + E", t("keys.reason")], ["Alt + W", t("keys.rewrite")], ["Alt + R", t("keys.raw")],
    ["Alt + C", t("keys.compare")], ["Alt + X", t("keys.expand")], ["Alt + G", t("keys.guidelines")],
    ["Alt + K", t("keys.single")], ["?, Alt + H", t("keys.help")],
  ];
}

function dialog(title, ...children) {
  const box = make("dialog", { class: "rb-dialog", "aria-label": title }, make("h2", {}, title), ...children);
  box.addEventListener("click", (event) => event.target === box && box.close());
  return box;
}

/** A dialog that calls `onReason(text, verdict)`. */
function skipDialog(onReason) {
  const done = (reason, verdict) => {
    if (!reason.trim()) return field.focus();
    box.close();
    onReason(reason.trim().toWellFormed(), verdict);
  };
  const field = make("input", { type: "text", maxlength: "500", dir: "auto", placeholder: t("skip.other"), "aria-label": t("skip.other") });
  const form = make("form", { class: "rb-reason", onsubmit: (event) => (event.preventDefault(), done(field.value, "")) }, field,
    make("button", { type: "submit", class: "rb-button" }, t("skip.skip")),
    make("button", { type: "button", class: "rb-choice", onclick: () => done(field.value, "cannot_rank") }, t("skip.cannot")));
  const quick = (keys, verdict) => make("div", { class: "rb-choices" }, ...keys.map((key) =>
    make("button", { type: "button", class: "rb-choice", onclick: () => done(t(key), verdict) }, t(key))));
  const box = dialog(t("skip.title"), make("h3", {}, t("skip.mine")), quick(MY_REASONS, ""),
    make("h3", {}, t("skip.nobody")), quick(NOBODYS_REASONS, "cannot_rank"), make("h3", {}, t("skip.other")), form,
    make("button", { type: "button", class: "rb-quiet", onclick: () => box.close() }, t("skip.cancel")));
  return { node: box, open: () => ((field.value = ""), box.showModal()) };
}

/** A dialog that calls `onYes()`. */
function unchangedDialog(onYes) {
  const yes = make("button", { type: "button", class: "rb-button", onclick: () => (box.close(), onYes()) }, t("unchanged.yes"));
  const no = make("button", { type: "button", class: "rb-quiet", onclick: () => box.close() }, t("unchanged.no"));
  const box = dialog(t("unchanged.title"), make("p", {}, t("unchanged.text")), make("div", { class: "rb-dialog-actions" }, no, yes));
  return { node: box, open: () => (box.showModal(), yes.focus()) };
}

function keyDialog() {
  const rows = keyMap().map(([keys, what]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, what)));
  const box = dialog(t("keys.title"), make("table", { class: "rb-keys" }, make("tbody", {}, ...rows)),
    make("button", { type: "button", class: "rb-button", onclick: () => box.close() }, t("keys.close")));
  return { node: box, open: () => box.showModal() };
}

/** What a newcomer is told of a gold comparison: the prepared ranking, in the letters of the cards, and why. */
function goldDialog() {
  const answer = make("p", {}), agreement = make("p", {}), why = make("div", {});
  const go = make("button", { type: "button", class: "rb-button", onclick: () => box.close() }, t("gold.close"));
  const box = dialog(t("gold.title"), answer, agreement, why, go);
  const open = (feedback, responses) => {
    const prepared = new Ranking(responses.map((response) => response.id), feedback.tiers);
    answer.textContent = t("gold.answer", { echo: prepared.echo() });
    agreement.textContent = feedback.agreement === null ? "" : t("gold.agreement", { percent: Math.round(100 * feedback.agreement) });
    why.replaceChildren(safeHtml("div", { class: "rb-text", dir: "auto" }, feedback.html));
    box.showModal();
    go.focus();
  };
  return { node: box, open };
}
