// Links to the reports of runs; they open beside the page.

const reports = element.querySelector(".reports");
request("/api/reports").then(({ status, data }) => {
  if (status !== 200) return;
  reports.append(...data.map(({ run, name }) => make("a", {
    href: at(`/api/runs/${encodeURIComponent(run)}/report`), target: "_blank", rel: "noopener" }, name)));
  if (!data.length) reports.append("None yet: Report on the Training page, or trainer report RUN, makes one.");
});
