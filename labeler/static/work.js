// The dashboard: an annotator's own numbers, and the last two weeks as bars and as a table.

class WorkPage {
  constructor(root) {
    this.root = root;
    this.body = make("div", { class: "rb-work" });
    root.append(make("h1", {}, t("work.title")), this.body);
  }

  async load() {
    const reply = await request("/api/work");
    if (reply.status === 401) return goToLogin();
    if (reply.status !== 200) return this.body.replaceChildren(make("p", { role: "alert" }, t("work.failed", { error: errorText(reply) })));
    const { counts, seconds, days, agreement } = reply.data;
    const numbers = {
      "work.today": whole(counts.mine_today), "work.mine": whole(counts.mine), "work.team": whole(counts.team), "work.waiting": whole(counts.waiting),
      "work.hoursToday": durationText(seconds.today), "work.hoursWeek": durationText(seconds.week), "work.hoursAll": durationText(seconds.all),
      "work.median": durationText(seconds.median),
    };
    this.body.replaceChildren(
      make("dl", { class: "rb-numbers" }, ...Object.entries(numbers).map(([key, text]) => make("div", {}, make("dt", {}, t(key)), make("dd", {}, text)))),
      make("h2", {}, t("work.quality")), make("p", {}, agreementText(agreement)), make("p", { class: "rb-note" }, t("work.private")),
      make("h2", {}, t("work.days")), drawDays(days));
    return undefined;
  }
}

function whole(number) {
  return Number(number).toLocaleString(document.documentElement.lang);
}

function percent(share) {
  return share.toLocaleString(document.documentElement.lang, { style: "percent" });
}

function durationText(seconds) {
  if (seconds < 60) return t("work.seconds", { seconds: whole(Math.round(seconds)) });
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return t("work.minutes", { minutes: whole(minutes) });
  return t("work.hoursMinutes", { hours: whole(Math.floor(minutes / 60)), minutes: whole(minutes % 60) });
}

function agreementText({ value, low, high, n, undefined: why, needed }) {
  if (why === "nothing") return t("work.nothingCounts");
  if (why === "alone") return t("work.alone");
  if (why === "few") return t("work.fewPairs", { pairs: whole(n), needed: whole(needed) });
  return t("work.agreement", { share: percent(value), pairs: whole(n), low: percent(low), high: percent(high) });
}

/** A table whose bars begin at 0. */
function drawDays(days) {
  const most = Math.max(1, ...days.map((day) => day.rankings));
  const rows = days.map(({ day, rankings, seconds }) => {
    const bar = make("span", { class: "rb-bar-of", "aria-hidden": "true" });
    bar.style.inlineSize = `${(100 * rankings) / most}%`;
    const date = new Date(`${day}T12:00`).toLocaleDateString(document.documentElement.lang, { weekday: "short", day: "numeric", month: "short" });
    return make("tr", {}, make("th", { scope: "row" }, date), make("td", { class: "rb-amount" }, whole(rankings)),
      make("td", { class: "rb-bars" }, bar), make("td", { class: "rb-amount" }, durationText(seconds)));
  });
  const heads = [t("work.day"), t("work.rankings"), "", t("work.hours")];
  return make("table", { class: "rb-days" },
    make("thead", {}, make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col" }, text) : make("td", { "aria-hidden": "true" }))))),
    make("tbody", {}, ...rows));
}
