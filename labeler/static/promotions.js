// Who answers a study's prompts: how a policy fares blind, and promoting it or rolling back, in one place.

const CHANGES = { "sampling policies": "chosen", "policy promoted": "promoted", "policy rolled back": "rolled back" };

class WhoAnswers {
  /** `page`: the Training page, which asks, says, and draws anew what nobody uses. */
  constructor(page) {
    this.page = page;
    this.root = make("div", {});
  }

  async load() {
    const data = await this.page.ask("/api/promotions");
    if (data) this.page.changed("promotions", data, () => this.page.redraw(this.root, () => this.draw(data)));
  }

  draw({ studies, policies }) {
    if (!studies.length) return this.root.replaceChildren(make("p", {}, "There is no study yet."));
    const study = make("select", { id: "tr-study" }, ...studies.map((one) => make("option", { value: one.id }, one.name)));
    const policy = make("select", { id: "tr-policy", "aria-describedby": "tr-refusal" }, ...policies.map((one) => make("option", { value: one.id }, `${one.name} (${one.kind})`)));
    const reason = make("input", { id: "tr-reason", type: "text", maxlength: 2000, autocomplete: "off" });
    const refusal = make("small", { id: "tr-refusal" });
    const now = make("p", {});
    const gates = make("p", {});
    const evidence = make("div", { class: "tr-evidence", "aria-live": "polite" });
    const history = make("div", {});
    const ask = make("button", { type: "button", disabled: !policies.length, onclick: async () => {
      const found = await this.page.ask(`/api/promotions/evidence?study=${encodeURIComponent(study.value)}&policy=${encodeURIComponent(policy.value)}`);
      if (found) evidence.replaceChildren(make("p", {}, found.said), factsOf(found.facts));
    } }, "How it fares blind");
    const promote = make("button", { type: "button", class: "tr-primary", onclick: () => this.set("/api/promotions", { study: study.value, policy: policy.value, reason: reason.value }) }, "Promote");
    const back = make("button", { type: "button", onclick: () => this.set("/api/promotions/back", { study: study.value, reason: reason.value }) }, "Roll back");
    const showPolicy = () => {
      const said = policies.find((one) => one.id === policy.value)?.refusal ?? "";
      refusal.textContent = said;
      promote.disabled = said !== "" || !policies.length;
      evidence.replaceChildren();
    };
    const showStudy = () => {
      const one = studies.find((other) => other.id === study.value);
      now.replaceChildren("Now answers: ", make("b", {}, one.answers.join(", ") || "the worker's base model"), ".");
      gates.textContent = one.gates.length ? `Gates of this study: ${one.gates.join("; ")}.` : "";
      back.disabled = !one.back.length;
      back.textContent = one.back.length ? `Roll back to ${one.back.join(", ")}` : "Roll back";
      history.replaceChildren(historyOf(one.history));
      evidence.replaceChildren();
    };
    if (this.study && studies.some((one) => one.id === this.study)) study.value = this.study;
    if (policies.some((one) => one.id === this.policy)) policy.value = this.policy;
    study.addEventListener("change", () => { this.study = study.value; showStudy(); });
    policy.addEventListener("change", () => { this.policy = policy.value; showPolicy(); });
    showStudy();
    showPolicy();
    return this.root.replaceChildren(make("p", {}, "Rankings and comparisons of earlier policies stay as they are; what waits of them is asked last."),
      make("div", { class: "tr-fields" }, labelled("study", study), labelled("policy", policy, refusal), labelled("why (kept in the log)", reason)), now, gates,
      make("div", { class: "tr-acts" }, ask, promote, back), evidence, history);
  }

  async set(path, body) {
    const done = await this.page.ask(path, body);
    if (!done) return;
    this.page.say(`From now on answers: ${done.policies.join(", ")}.`);
    await this.load();
  }
}

function historyOf(events) {
  if (!events.length) return "";
  const rows = events.map((event) => make("tr", {}, make("td", {}, whenText(event.at)), make("td", {}, CHANGES[event.kind]), make("td", {}, event.policies.join(", ")), make("td", {}, event.by || "a program"), make("td", {}, event.reason)));
  return make("div", { class: "tr-wide", tabindex: "0", role: "region", "aria-label": "Who answered when" }, make("table", {}, make("thead", {}, make("tr", {}, ...["When", "What", "Policies", "By", "Why"].map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows)));
}

function labelled(name, control, help = "") {
  return make("div", { class: "tr-field" }, make("label", { for: control.id }, name), control, help);
}
