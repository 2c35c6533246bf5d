// The Training page: forms, jobs, the run that is looked at, and who answers. All of it is asked again every two seconds, so
// nothing is lost when the page, the server or the worker begins anew.

const POLL_MS = 2000;
const KEPT = "rankloop-training";
const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "stopped" };
const STAGES = { sft: "Fine-tune (SFT)", reward: "Reward model", ppo: "PPO", evaluate: "Blind evaluation", report: "Report", check: "Checks" };
const KINDS = { ...STAGES, plan: "Memory plan", sample: "Sampling" }; // of jobs

class TrainingPage {
  constructor(root) {
    this.kept = recall(KEPT) ?? {};
    this.stage = this.kept.stage ?? "reward";
    this.chosen = new URLSearchParams(location.hash.slice(1)).get("job");
    this.drawn = {};
    this.late = new Map(); // what is drawn once nobody types there
    this.said = make("p", { class: "tr-said", role: "status", "aria-live": "polite" });
    this.worker = make("p", { class: "tr-worker" });
    this.stages = make("div", { class: "tr-stages", role: "group", "aria-label": "What to train" });
    this.form = make("div", {});
    this.jobs = make("div", {});
    this.job = make("section", { class: "tr-job", "aria-label": "The chosen job" });
    this.answers = new WhoAnswers(this);
    root.append(make("h1", {}, "Training"), this.worker, this.said,
      make("section", {}, make("h2", {}, "A new run"), this.stages, this.form),
      make("section", {}, make("h2", {}, "Jobs"), this.jobs), this.job,
      make("section", {}, make("h2", {}, "Who answers"), this.answers.root));
    addEventListener("hashchange", () => this.choose(new URLSearchParams(location.hash.slice(1)).get("job")));
  }

  async start() {
    await this.loadForms();
    await this.answers.load();
    await this.poll();
  }

  /** What came back, or null after saying why nothing did. */
  async ask(path, body) {
    const reply = await request(path, body);
    if (reply.status === 401) goToLogin();
    if (reply.status === 200) return reply.data;
    this.say(reply.status === 0 ? "The server does not answer; this page tries again." : reply.data.error ?? "The server failed; try again.", true);
    return null;
  }

  say(text, bad = false) {
    this.said.textContent = text;
    this.said.classList.toggle("tr-bad", bad);
  }

  async poll() {
    clearTimeout(this.timer);
    if (!document.hidden) await this.look();
    this.timer = setTimeout(() => this.poll(), POLL_MS);
  }

  async look() {
    const reply = await request("/api/training/jobs");
    if (reply.status === 401) return goToLogin();
    if (reply.status !== 200) return this.say("The server does not answer; this page tries again.", true);
    if (this.said.textContent.startsWith("The server does not answer")) this.say("");
    this.changed("worker", reply.data.worker, (worker) => this.drawWorker(worker));
    this.changed("jobs", reply.data.jobs, (jobs) => this.drawJobs(jobs));
    const ended = JSON.stringify(reply.data.jobs.map((job) => [job.id, job.status]));
    if (this.ended !== undefined && this.ended !== ended) await Promise.all([this.answers.load(), this.loadForms()]);
    this.ended = ended;
    if (reply.data.worker && !(this.data && this.stages.childElementCount)) await this.loadForms();
    for (const [part, draw] of this.late) {
      if (isUsed(part)) continue;
      this.late.delete(part);
      draw();
    }
    return this.lookAtJob();
  }

  /** Draw only what is new: else whoever reads or types would be disturbed. */
  changed(name, value, draw) {
    const text = JSON.stringify(value);
    if (this.drawn[name] === text) return;
    this.drawn[name] = text;
    const again = whereFocusIs();
    draw(value);
    again?.();
  }

  redraw(part, draw) {
    if (isUsed(part)) this.late.set(part, draw);
    else draw();
  }

  drawWorker(worker) {
    if (!worker) return this.worker.replaceChildren("No worker has been started on this database yet. Start one: ", make("code", {}, "trainer worker"));
    const memory = worker.memory_gib ? `, ${worker.memory_gib.toFixed(1)} GiB` : "";
    const about = `${worker.model} (${worker.quantization}) on ${worker.device}${memory}`;
    if (worker.alive) return this.worker.replaceChildren(make("b", { class: "tr-good" }, "The worker is running"), `: ${about}.`);
    return this.worker.replaceChildren(make("b", { class: "tr-warn" }, "No worker is running"), "; jobs wait. Start one: ", make("code", {}, "trainer worker"), ` (the last one had ${about}).`);
  }

  // -- a new run -----------------------------------------------------------------------------------------------------

  async loadForms() {
    const data = await this.ask("/api/training");
    if (!data) return;
    this.vram = data.worker?.memory_gib;
    this.changed("forms", [data.stages, data.choices, data.names], () => {
      this.data = data;
      if (!(this.stage in data.stages)) this.stage = Object.keys(data.stages)[0];
      this.redraw(this.form, () => this.drawForm());
    });
  }

  drawForm() {
    const { stages, choices, names } = this.data;
    this.stages.replaceChildren(...Object.keys(stages).map((name) => make("button", { type: "button", "aria-pressed": String(name === this.stage), onclick: () => {
      this.stage = name;
      this.keep();
      this.drawForm();
    } }, STAGES[name] ?? name)));
    const schema = stages[this.stage];
    if (!schema) return this.form.replaceChildren(make("p", {}, "What can be trained is shown once a worker has said what it can do."));
    this.fields = new SchemaForm(schema, choices, this.kept[this.stage], () => this.keep());
    const typed = this.name && this.name.value !== this.name.defaultValue && this.named === this.stage ? this.name.value : null;
    this.named = this.stage;
    this.makesRun = schema.makes_run !== false;
    this.name = make("input", { id: "tr-run", type: "text", value: names[this.stage] ?? "", maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", required: true, autocomplete: "off", spellcheck: "false" });
    if (typed) this.name.value = typed;
    this.card = make("input", { id: "tr-vram", type: "number", min: "0.1", step: "any", value: this.vram ? this.vram.toFixed(2) : 24 });
    const ofRun = !this.makesRun ? [] : [make("div", { class: "tr-fields" }, make("div", { class: "tr-field" }, make("label", { for: "tr-run" }, "name of the run"), this.name, make("small", {}, "Of its folder and its policy.")),
        make("div", { class: "tr-field" }, make("label", { for: "tr-vram" }, "GiB of the card"), this.card, make("small", {}, "For the memory plan.")))];
    const plan = !this.makesRun ? [] : [make("button", { type: "button", onclick: () => this.plan() }, "Memory plan")];
    return this.form.replaceChildren(make("p", { class: "tr-about" }, schema.description), ...ofRun, this.fields.root,
      make("div", { class: "tr-acts" }, make("button", { type: "button", class: "tr-primary", onclick: () => this.launch() }, "Launch"), ...plan,
        make("button", { type: "button", onclick: () => this.forget() }, "Back to the defaults")));
  }

  keep() {
    if (this.fields && this.fields.schema.title === this.stage) this.kept[this.stage] = this.fields.values();
    this.kept.stage = this.stage;
    remember(KEPT, this.kept);
  }

  forget() {
    delete this.kept[this.stage];
    remember(KEPT, this.kept);
    this.drawForm();
  }

  wanted() {
    if (this.makesRun && (!this.name.reportValidity() || !this.card.reportValidity())) return null;
    if (!this.fields.valid()) return null;
    return { stage: this.stage, run: this.makesRun ? this.name.value : "", options: this.fields.values() };
  }

  async launch() {
    const body = this.wanted();
    const made = body && (await this.ask("/api/training/jobs", body));
    if (!made) return;
    this.name.value = this.name.defaultValue;
    this.say(`${body.run || STAGES[body.stage]} is in the queue.`);
    location.hash = `job=${made.job}`;
    await this.look();
  }

  async plan() {
    const body = this.wanted();
    const made = body && (await this.ask("/api/training/plans", { ...body, vram: Number(this.card.value) }));
    if (!made) return;
    this.say("The memory plan is in the queue.");
    location.hash = `job=${made.job}`;
    await this.look();
  }

  // -- jobs ----------------------------------------------------------------------------------------------------------

  drawJobs(jobs) {
    if (!jobs.length) return this.jobs.replaceChildren(make("p", {}, "Nothing has been launched yet."));
    const rows = jobs.map((job) => make("tr", { "aria-current": job.id === this.chosen ? "true" : null },
      make("th", { scope: "row" }, make("a", { href: `${location.pathname}#job=${job.id}` }, job.run || job.kind)), make("td", {}, KINDS[job.kind] ?? job.kind),
      make("td", {}, this.stateText(job), job.error ? make("div", { class: "tr-error" }, job.error.slice(0, 200)) : "", job.waits ? make("span", { class: "tr-progress" }, job.waits) : "", this.progressOf(job)), make("td", {}, whenText(job.created)), make("td", { class: "tr-buttons" }, ...this.buttons(job))));
    const heads = ["Run", "Stage", "State", "Launched", "Act"];
    return this.jobs.replaceChildren(make("div", { class: "tr-wide", tabindex: "0", role: "region", "aria-label": "All jobs" }, make("table", { class: "tr-jobs" },
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows))));
  }

  stateText(job) {
    const place = job.status === "queued" && job.place > 1 ? `, number ${job.place}` : "";
    return make("span", { class: `tr-state tr-${job.status}` }, `${STATES[job.status]}${place}`);
  }

  progressOf(job) {
    if (job.status !== "running" || !job.steps) return "";
    const left = job.eta === null ? "" : `, about ${lengthText(job.eta)} to go`;
    return make("span", { class: "tr-progress" }, make("progress", { max: job.steps, value: job.step, "aria-label": `${job.run}: step` }), ` ${job.step} of ${job.steps}${left}`);
  }

  buttons(job) {
    const act = (name, path, said) => make("button", { type: "button", "aria-label": `${name} ${job.run || job.kind}`, onclick: async () => {
      if (!(await this.ask(`/api/training/jobs/${job.id}/${path}`, {}))) return;
      this.say(said);
      await this.look();
    } }, name);
    if (job.status === "queued" || job.status === "running") return [act("Stop", "stop", `${job.run || job.kind} is stopped.`)];
    if (job.status === "cancelled" || job.status === "failed") return [act("Resume", "again", `${job.run || job.kind} is in the queue again.`)];
    return [];
  }

  async choose(ident) {
    this.chosen = ident;
    this.drawn.job = this.drawn.jobs = undefined;
    await this.look();
  }

  async lookAtJob() {
    if (!this.chosen) return this.job.replaceChildren();
    const reply = await request(`/api/training/jobs/${encodeURIComponent(this.chosen)}`);
    if (reply.status === 404) return this.job.replaceChildren();
    if (reply.status === 200) this.changed("job", reply.data, (job) => this.drawJob(job));
    return undefined;
  }

  drawJob(job) {
    const open = new Set([...this.job.querySelectorAll("details[open]")].map((one) => one.dataset.name));
    const more = (name, ...children) => make("details", { "data-name": name, open: open.has(name) }, make("summary", {}, name), ...children);
    const parts = [make("h2", {}, `${job.run || job.kind} `, this.stateText(job))];
    const by = job.by ? ` by ${job.by}` : "";
    const spent = job.started ? `, ${lengthText((job.finished ?? Date.now() / 1000) - job.started)}` : "";
    const kind = KINDS[job.kind] ?? job.kind;
    if (job.finished) parts.push(make("p", {}, `${kind}, launched ${whenText(job.created)}${by}${spent}.`));
    else parts.push(make("p", {}, `${kind}, launched ${whenText(job.created)}${by}.`, this.progressOf(job)));
    if (job.error) parts.push(make("p", { class: "tr-bad" }, job.error));
    if (job.waits) parts.push(make("p", {}, job.waits));
    if (job.report) parts.push(make("p", {}, make("a", { href: at(`/api/runs/${encodeURIComponent(job.report)}/report`), target: "_blank", rel: "noopener" }, "The report of the run")));
    if (job.plan) parts.push(this.drawPlan(job));
    parts.push(factsOf(job.facts));
    if (job.plots.length) parts.push(make("div", { class: "tr-plots" }, ...job.plots.map(drawPlot)));
    if (job.looks.length) parts.push(this.drawLooks(job.looks));
    parts.push(more("Options", make("dl", { class: "tr-options" }, ...optionsOf(job).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))))));
    if (job.command) parts.push(more("The command that makes it once more", commandOf(job.command)));
    if (job.log.length) {
      const before = this.job.querySelector("pre[aria-label=Log]");
      const up = before && before.scrollHeight - before.scrollTop - before.clientHeight > 8 ? before.scrollTop : null;
      const log = make("pre", { tabindex: "0", "aria-label": "Log" }, job.log.join("\n"));
      const part = more("Log", log);
      part.open = part.open || !this.logSeen;
      this.logSeen = true;
      parts.push(part);
      queueMicrotask(() => { log.scrollTop = up ?? log.scrollHeight; }); // whoever reads further up stays there
    }
    this.job.replaceChildren(...parts);
  }

  drawPlan(job) {
    const { plan, text } = job.plan;
    const stage = Object.values(plan.stages)[0];
    const use = make("button", { type: "button", onclick: () => {
      this.stage = Object.keys(plan.stages)[0];
      this.drawForm();
      this.fields.fill(stage.options);
      this.keep();
      this.say("The plan's options are in the form.");
    } }, "Put its options into the form");
    const most = Math.max(plan.vram_gib, plan.total_gib);
    const bars = Object.entries(plan.parts).map(([part, gib]) => {
      const bar = make("span", { class: "tr-bar", "aria-hidden": "true" });
      bar.style.inlineSize = `${(100 * gib) / most}%`;
      return make("tr", {}, make("th", { scope: "row" }, part.replaceAll("_", " ")), make("td", { class: "tr-number" }, `${gib.toFixed(2)} GiB`), make("td", { class: "tr-bars" }, bar));
    });
    const verdict = plan.fits ? `It fits: ${plan.total_gib.toFixed(2)} of ${short(plan.vram_gib)} GiB.` : `It does not fit: ${plan.total_gib.toFixed(2)} GiB on a card of ${short(plan.vram_gib)}.`;
    return make("div", { class: "tr-plan" }, make("p", { class: plan.fits ? "tr-good" : "tr-bad" }, verdict), make("table", {}, make("tbody", {}, ...bars)),
      make("pre", { tabindex: "0", "aria-label": "The plan" }, text), ...(plan.fits && Object.keys(stage.options).length ? [use] : []));
  }

  /** Answers to the same few prompts, at the step that is chosen. */
  drawLooks(looks) {
    const steps = looks.map((look) => look.step);
    const step = steps.includes(this.lookStep) ? this.lookStep : steps[steps.length - 1];
    const body = make("tbody", {});
    const show = (wanted) => body.replaceChildren(...looks.find((look) => look.step === wanted).rows.map((row) => make("tr", {},
      make("td", { dir: "auto" }, row.prompt), make("td", { dir: "auto" }, row.reference ?? ""), make("td", { dir: "auto" }, row.response), make("td", { class: "tr-number" }, row.score.toFixed(2)), make("td", { class: "tr-number" }, row.kl.toFixed(2)))));
    show(step);
    const choice = make("select", { id: "tr-step", onchange: () => {
      this.lookStep = Number(choice.value);
      show(this.lookStep);
    } }, ...steps.map((one) => make("option", { value: one, selected: one === step }, String(one))));
    return make("div", {}, make("h3", {}, "Answers to the same prompts"), make("p", {}, make("label", { for: "tr-step" }, "after rollout "), choice),
      make("div", { class: "tr-wide", tabindex: "0", role: "region", "aria-label": "Answers" }, make("table", { class: "tr-samples" }, make("thead", {}, make("tr", {}, ...["Prompt", "Reference's answer", "Answer", "Score", "KL"].map((head) => make("th", { scope: "col" }, head)))), body)));
  }
}

/** What was asked for, [name, value]; of a plan, the stage's options. */
function optionsOf(job) {
  const options = job.options.options ? { stage: job.options.stage, vram: job.options.vram, ...job.options.options } : job.options;
  return Object.entries(options).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : value]).filter(([, value]) => value !== null && value !== "");
}
