// An annotator's own settings: language, and topics that they do not want.

/** `account`: {settings}; `saved(whether the language has changed)` is called when the server has them. */
function settingsDialog(account, saved) {
  const language = make("select", { "aria-label": t("settings.language") });
  const topics = make("div", { class: "rb-choices" });
  const topicsTitle = make("h3", {}, t("settings.topics"));
  const failed = make("p", { class: "rb-failed", role: "alert" });
  const form = make("form", { onsubmit: (event) => (event.preventDefault(), save()) },
    make("h3", {}, t("settings.language")), language, topicsTitle, topics, failed,
    make("div", { class: "rb-dialog-actions" },
      make("button", { type: "button", class: "rb-quiet", onclick: () => box.close() }, t("settings.cancel")),
      make("button", { type: "submit", class: "rb-button" }, t("settings.save"))));
  const box = dialog(t("settings.title"), form);
  let before = "";

  /** {languages, topics} of the study. */
  function know(study) {
    const own = study.languages[document.documentElement.lang] ?? "";
    const choices = Object.entries(study.languages).map(([code, name]) => make("option", { value: code, lang: code }, name));
    language.replaceChildren(make("option", { value: "" }, t("settings.browser", { language: own })), ...choices);
    language.value = account.settings?.language ?? "";
    if (language.value) language.firstChild.textContent = t("settings.browser", { language: "…" });
    topicsTitle.hidden = !study.topics.length;
    topics.replaceChildren(...study.topics.map(({ tag, text, avoided: out }) =>
      make("label", { class: "rb-check", dir: "auto" }, make("input", { type: "checkbox", value: tag, checked: out }), text)));
    before = language.value;
  }

  async function save() {
    const avoid = [...topics.querySelectorAll("input:checked")].map((input) => input.value);
    const reply = await request("/api/settings", { language: language.value || null, avoid });
    if (reply.status !== 200) return void (failed.textContent = t("settings.failed", { error: errorText(reply) }));
    const changed = language.value !== before;
    before = language.value;
    box.close();
    return saved(changed);
  }
  return { node: box, know, open: () => ((failed.textContent = ""), box.showModal()) };
}
