// What an annotator agrees to before the first task.

/** Draw the consent text of a study into `stage`; `agreed()` is called once the server has noted it. */
async function drawConsent(stage, study, agreed) {
  const reply = await request("/api/consent" + ofStudy(study));
  if (reply.status !== 200) return;
  const consent = reply.data;
  const failed = make("p", { class: "rb-failed", role: "alert" });
  const agree = async () => {
    const answer = await request("/api/consent", { study, version: consent.version });
    if (answer.status === 200) return agreed();
    failed.textContent = t("consent.failed", { error: errorText(answer) });
    return undefined;
  };
  const title = make("h2", { tabindex: "-1" }, t("consent.title"));
  stage.replaceChildren(make("section", { class: "rb-consent", "aria-label": t("consent.title") }, title,
    make("p", { class: "rb-note" }, t("consent.version", { version: consent.version, date: dayText(consent.created) })),
    safeHtml("div", { class: "rb-text", dir: "auto" }, consent.html), failed,
    make("div", { class: "rb-dialog-actions" },
      make("form", { method: "post", action: at("/logout") }, make("button", { type: "submit", class: "rb-quiet" }, t("consent.leave"))),
      make("button", { type: "button", class: "rb-button", onclick: agree }, t("consent.agree")))));
  title.focus();
}
