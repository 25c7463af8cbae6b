"use strict";
// A page of a live run: when its files change, the parts marked data-live are taken from a fresh copy of the page.
const address = document.body.dataset.changes;

function refresh(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (!now || now.innerHTML === part.dataset.shown) continue;
    if (part.dataset.shown === undefined && now.innerHTML === part.innerHTML) { part.dataset.shown = now.innerHTML; continue; }
    const open = new Set([...part.querySelectorAll("details[open][data-key]")].map((x) => x.dataset.key));
    part.dataset.shown = now.innerHTML;
    part.className = now.className;
    part.replaceChildren(...document.importNode(now, true).childNodes);
    for (const details of part.querySelectorAll("details[data-key]")) details.open = open.has(details.dataset.key);
  }
}

let busy = false, again = false;
async function reload() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.pathname + location.search);
    if (answer.ok) {
      refresh(new DOMParser().parseFromString(await answer.text(), "text/html"));
      document.dispatchEvent(new Event("run-changed"));
    }
  } finally {
    busy = false;
    if (again) { again = false; setTimeout(reload, 1000); }
  }
}

if (address) {
  const source = new EventSource(address);
  source.addEventListener("changed", reload);
  source.addEventListener("open", () => document.body.classList.remove("offline"));
  source.addEventListener("error", () => document.body.classList.add("offline"));
}
