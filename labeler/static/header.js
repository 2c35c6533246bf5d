// Marks the page one is on, says who is logged in, and speaks the reader's language.

const here = location.pathname.replace(/\/$/, "") || "/";
for (const link of element.querySelectorAll("a")) {
  link.setAttribute("href", at(link.getAttribute("href")));
  if (link.matches("nav a") && link.getAttribute("href").replace(/\/$/, "") === here) link.setAttribute("aria-current", "page");
}
const out = element.querySelector("form");
out.setAttribute("action", at(out.getAttribute("action")));
loadStrings().then(() => {
  for (const node of element.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  element.querySelector("nav").setAttribute("aria-label", t("nav.label"));
});
request("/api/me").then(({ status, data }) => {
  if (status !== 200) return;
  element.querySelector(".rh-who").textContent = data.name;
  for (const link of element.querySelectorAll(".rh-owner")) link.hidden = data.role === "annotator";
  element.querySelector(".rh-ops").hidden = data.role !== "admin";
});
