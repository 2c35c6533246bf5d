// A message to the study's owner, about the comparison that is shown or in general.

/** `comparison()`, `study()`: the ids of what is shown, if anything is; `say(text)`: tell the annotator that it was sent. */
function remarkDialog(comparison, study, say) {
  let nonce = "";
  const text = make("textarea", { rows: "5", maxlength: "2000", dir: "auto", required: true, "aria-label": t("remark.text") });
  const about = make("input", { type: "checkbox", checked: true });
  const aboutLabel = make("label", { class: "rb-check" }, about, t("remark.about"));
  const failed = make("p", { class: "rb-failed", role: "alert" });
  const form = make("form", { onsubmit: (event) => (event.preventDefault(), send()) }, text, aboutLabel, failed,
    make("div", { class: "rb-dialog-actions" },
      make("button", { type: "button", class: "rb-quiet", onclick: () => box.close() }, t("remark.cancel")),
      make("button", { type: "submit", class: "rb-button" }, t("remark.send"))));
  const box = dialog(t("remark.title"), form);

  async function send() {
    const body = { text: text.value.trim().toWellFormed(), nonce, comparison: about.checked ? comparison() ?? null : null, study: study() };
    if (!body.text) return text.focus();
    const reply = await request("/api/remark", body);
    if (reply.status !== 200) return void (failed.textContent = t("remark.failed", { error: errorText(reply) }));
    text.value = "";
    box.close();
    return say(t("remark.sent"));
  }

  /** A text that could not be sent is still there. */
  function open() {
    nonce = newNonce();
    failed.textContent = "";
    aboutLabel.hidden = !comparison();
    box.showModal();
    text.focus();
  }
  return { node: box, open };
}
