// Links to what can be downloaded of each study.

const list = element.querySelector(".downloads");
request("/api/studies").then(({ status, data }) => {
  if (status !== 200) return;
  const files = { "hours.csv": "hours (CSV)", "rankings.jsonl": "rankings (JSON Lines)" };
  list.append(...data.map((study) => make("p", {}, `${study.name}: `, ...Object.entries(files).map(([file, text]) =>
    make("a", { href: at(`/api/studies/${encodeURIComponent(study.id)}/${file}`) }, text)))));
});
