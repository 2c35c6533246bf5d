// An annotator's own prompt: typed here, answered by the worker, then ranked. The progress shown is the worker's own.

const OWN_POLL_MS = 1500;
const NO_WORKER_SECONDS = 60;

class OwnPrompt {
  /** `study()`: the id of the study that is worked in; `show(next)`: show the comparison of the answers. */
  constructor(study, show) {
    this.study = study;
    this.onRank = show;
    this.text = make("textarea", { rows: "5", maxlength: "4000", dir: "auto", required: true, "aria-label": t("own.text") });
    this.form = make("form", { onsubmit: (event) => (event.preventDefault(), this.send()) },
      make("p", {}, t("own.text")), this.text, make("div", { class: "rb-dialog-actions" },
        make("button", { type: "submit", class: "rb-button" }, t("own.send"))));
    this.bar = make("progress", { hidden: true, "aria-label": t("own.title") });
    this.state = make("p", { role: "status" });
    this.rank = make("button", { type: "button", class: "rb-button", hidden: true, onclick: () => this.rankNow() }, t("own.rank"));
    this.again = make("button", { type: "button", class: "rb-quiet", hidden: true, onclick: () => this.reset() }, t("own.again"));
    this.node = dialog(t("own.title"), this.form, this.bar, this.state, make("div", { class: "rb-dialog-actions" },
      make("button", { type: "button", class: "rb-quiet", onclick: () => this.node.close() }, t("own.close")), this.again, this.rank));
  }

  open() {
    this.nonce ??= newNonce();
    this.node.showModal();
    if (!this.form.hidden) this.text.focus();
  }

  reset() {
    this.nonce = newNonce();
    this.job = null;
    this.form.hidden = false;
    this.bar.hidden = this.rank.hidden = this.again.hidden = true;
    this.state.textContent = this.text.value = "";
    this.text.focus();
  }

  async send() {
    const text = this.text.value.trim().toWellFormed();
    if (!text) return this.text.focus();
    const reply = await request("/api/own_prompts", { text, nonce: this.nonce, study: this.study() });
    if (reply.status !== 200) return void (this.state.textContent = t("own.failed", { error: errorText(reply) }));
    this.job = reply.data.job;
    this.form.hidden = true;
    return this.follow(reply.data);
  }

  /** Draw the state, and look again until there is nothing more to come. */
  follow(state) {
    const waits = state.status === "queued" || state.status === "running";
    this.bar.hidden = !waits;
    if (state.status === "running") [this.bar.max, this.bar.value] = [state.of, state.answers];
    else this.bar.removeAttribute("value");
    this.state.textContent = this.sentence(state);
    this.rank.hidden = state.status !== "done";
    this.again.hidden = waits;
    if (waits) setTimeout(() => this.look(), OWN_POLL_MS);
    else if (state.status === "done" && !this.node.open) this.node.showModal();
  }

  async look() {
    const { job } = this;
    const reply = await request("/api/own_prompts/" + job);
    if (job !== this.job) return undefined;
    if (reply.status === 200) return this.follow(reply.data);
    if (isOutage(reply)) return setTimeout(() => this.look(), OWN_POLL_MS);
    return void (this.state.textContent = t("own.failed", { error: errorText(reply) }));
  }

  sentence({ status, answers, of, ahead, busy_with: busyWith, waited: seconds, error }) {
    if (status === "running") return t("own.progress", { answers, of });
    if (status === "done") return t("own.ready");
    if (status !== "queued") return t("own.failed", { error });
    if (ahead) return t("own.ahead", { count: ahead, seconds });
    if (busyWith) return t("own.busy", { seconds });
    return t(seconds > NO_WORKER_SECONDS ? "own.noWorker" : "own.waiting", { seconds });
  }

  async rankNow() {
    const reply = await request("/api/own_prompts/" + this.job + "/rank", {});
    if (reply.status !== 200) return void (this.state.textContent = t("own.failed", { error: errorText(reply) }));
    this.node.close();
    this.reset();
    return this.onRank(reply.data.next);
  }
}
