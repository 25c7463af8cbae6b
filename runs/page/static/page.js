"use strict";
// A page of a live run: when its files change, the parts marked data-live are taken from a fresh copy of the page.
const address = document.body.dataset.changes;

function refresh(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (!now || now.innerHTML === part.dataset.shown) continue;
    // The page as it was loaded says nothing of what is shown, but may be up to date.
    const same = part.dataset.shown === undefined && now.innerHTML === part.innerHTML;
    part.dataset.shown = now.innerHTML;
    if (same) continue;
    // What a reader has opened stays open.
    const open = new Set([...part.querySelectorAll("details[open][data-key]")].map((x) => x.dataset.key));
    part.className = now.className;
    part.replaceChildren(...document.importNode(now, true).childNodes);
    for (const details of part.querySelectorAll("details[data-key]")) details.open = open.has(details.dataset.key);
  }
}

// Where the state stands, until the next refresh.
function showState(text) {
  const state = document.getElementById("state");
  state.textContent = text;
  delete state.dataset.shown;
}

let busy = false, again = false;
async function reload() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.pathname + location.search);
    if (answer.status === 404) {
      showState("gone");
      source.close();
    } else if (answer.ok) {
      refresh(new DOMParser().parseFromString(await answer.text(), "text/html"));
      document.dispatchEvent(new Event("run-changed"));
    }
  } catch {
    showState("no connection"); // the stream tries again by itself
  } finally {
    busy = false;
    if (again) { again = false; setTimeout(reload, 1000); }
  }
}

let source = null;
function follow() {
  source = new EventSource(address);
  source.addEventListener("changed", reload);
  source.addEventListener("error", reload);
}

// A browser has six connections to a host: a tab that nobody sees gives its own back.
if (address) {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source.close();
    else follow();
  });
  if (!document.hidden) follow();
}
