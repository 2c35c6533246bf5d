// What is said so far, on the server and mirrored on this device.

const DRAFT_DELAY_MS = 600;
const MIRRORS = 30;
const CLOCK_SLACK_MS = 2000;

class Drafts {
  /** `report(kind, text)` shows the state; `stored(job, reply)` is called when the server has it. */
  constructor(account, report, stored) {
    this.prefix = `rankloop.draft.${account}.`;
    this.report = report;
    this.stored = stored;
    this.prune();
  }

  /** What was said of the task, the newer of the mirror and the server's; `now`: the server's clock in seconds. */
  restore(task, now) {
    const mirror = recall(this.prefix + task.comparison);
    const stored = task.draft;
    if (!mirror) return stored ?? {};
    const at = mirror.at + (now * 1000 - Date.now());
    if (!stored || (!mirror.sent && at + CLOCK_SLACK_MS > stored.saved * 1000)) return { ...mirror, unsent: true };
    return { ...stored, active_ms: mirror.active_ms ?? 0 };
  }

  /** Keep it here at once, and on the server within a second. */
  keep(task, draft, activeMs) {
    this.stop();
    remember(this.prefix + task.comparison, { ...draft, active_ms: activeMs, sent: false, at: Date.now() });
    this.job = { task, draft, activeMs, attempt: 0 };
    this.report("saving", t("state.saving"));
    this.timer = setTimeout(() => this.send(this.job), DRAFT_DELAY_MS);
  }

  /** Send no more of the draft that waits. */
  stop() {
    clearTimeout(this.timer);
    this.job = null;
  }

  forget(comparison) {
    remember(this.prefix + comparison, null);
  }

  /** Try again now, if a draft waits. */
  retry() {
    clearTimeout(this.timer);
    if (this.job) this.send(this.job);
  }

  async send(job) {
    const { comparison, lease } = job.task;
    const reply = await request("/api/draft", { comparison, lease, ...job.draft });
    if (job !== this.job) return; // something newer is on its way
    if (isOutage(reply)) {
      this.report("offline", t("state.offline"));
      this.timer = setTimeout(() => this.send(job), backOff(job.attempt++));
    } else if (reply.status === 401) {
      goToLogin();
    } else if (reply.status >= 400) {
      this.job = null;
      this.report("failed", t("state.draftNotSaved", { error: errorText(reply) }));
    } else {
      this.job = null;
      remember(this.prefix + comparison, { ...job.draft, active_ms: job.activeMs, sent: true, at: Date.now() });
      this.stored(job, reply.data);
      this.report("saved", t("state.draftSaved", { time: clockTime() }));
    }
  }

  /** The page goes away: send what waits without waiting for the answer. */
  flush() {
    if (!this.job) return;
    const { comparison, lease } = this.job.task;
    const body = JSON.stringify({ comparison, lease, ...this.job.draft });
    if (body.length > 60000) return; // more than a browser takes along; the mirror has it
    fetch(at("/api/draft"), { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  }

  /** Only the newest mirrors stay. */
  prune() {
    const kept = remembered(this.prefix).map((key) => [recall(key)?.at ?? 0, key]).sort((a, b) => b[0] - a[0]);
    kept.slice(MIRRORS).forEach(([, key]) => remember(key, null));
  }
}
