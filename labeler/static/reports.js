// Links to the reports of PPO runs; they open beside the page.

const reports = element.querySelector(".reports");
request("/api/policies").then(({ status, data }) => {
  if (status !== 200) return;
  reports.append(...data.map((policy) => make("a", {
    href: at(`/api/policies/${encodeURIComponent(policy.id)}/report`), target: "_blank", rel: "noopener" }, policy.name)));
  if (!data.length) reports.append("None yet: Report on the Training page, or trainer report RUN, makes one.");
});
