// What is placed so far, on the server and mirrored on this device.

const DRAFT_DELAY_MS = 600;
const MIRRORS = 30;

class Drafts {
  constructor(account, report) {
    this.prefix = `rankloop.draft.${account}.`;
    this.report = report;
    this.prune();
  }

  /** {tiers, active_ms} of the task: the mirror if the server does not have it yet, else the server's draft. */
  restore(task) {
    const mirror = recall(this.prefix + task.comparison);
    if (mirror && (!mirror.sent || !task.draft)) return mirror;
    return { tiers: task.draft?.tiers ?? [], active_ms: mirror?.active_ms ?? 0 };
  }

  /** Keep it here at once, and on the server within a second. */
  keep(task, ranking, activeMs) {
    this.stop();
    const draft = { tiers: ranking.draftTiers(), active_ms: activeMs, sent: false, at: Date.now() };
    remember(this.prefix + task.comparison, draft);
    this.job = { task, draft, attempt: 0 };
    this.report("saving", "Saving…");
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
    const reply = await request("/api/draft", { comparison, lease, tiers: job.draft.tiers });
    if (job !== this.job) return; // something newer is on its way
    if (isOutage(reply)) {
      this.report("offline", "Offline – kept on this device, retrying");
      this.timer = setTimeout(() => this.send(job), backOff(job.attempt++));
    } else if (reply.status === 401) {
      goToLogin();
    } else if (reply.status >= 400) {
      this.job = null;
      this.report("failed", `Draft not saved: ${reply.data.error ?? "the server refused it"}`, reply.data.code);
    } else {
      this.job = null;
      remember(this.prefix + comparison, { ...job.draft, sent: true });
      this.report("saved", `Draft saved ${clockTime()}`);
    }
  }

  /** Only the newest mirrors stay. */
  prune() {
    const kept = remembered(this.prefix).map((key) => [recall(key)?.at ?? 0, key]).sort((a, b) => b[0] - a[0]);
    kept.slice(MIRRORS).forEach(([, key]) => remember(key, null));
  }
}
