"use strict";
// One step at a time: buttons, the slider, or the arrow keys. Without this script all steps stand below each other.
const steps = [...document.querySelectorAll("#steps > li")];
const slider = document.getElementById("at"), text = document.getElementById("at-text");
const play = document.querySelector("[data-play]");
const frames = [...document.querySelectorAll("#frames > figure")];
let at = 0, timer = null;

function show(index) {
  at = Math.max(0, Math.min(steps.length - 1, index));
  steps.forEach((step, i) => step.classList.toggle("shown", i === at));
  // Not every state has a frame: the newest one is shown.
  const newest = frames.filter((frame) => Number(frame.dataset.step) <= at + 1).at(-1);
  for (const frame of frames) frame.classList.toggle("shown", frame === newest);
  slider.value = String(at + 1);
  text.textContent = `${at + 1} of ${steps.length}`;
  if (at === steps.length - 1) stop();
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.setAttribute("aria-pressed", "false");
  play.textContent = "play";
}

function start() {
  if (at === steps.length - 1) show(0);
  timer = setInterval(() => show(at + 1), 600);
  play.setAttribute("aria-pressed", "true");
  play.textContent = "stop";
}

function fromAddress() {
  const step = /^#step-(\d+)$/.exec(location.hash);
  if (step) show(Number(step[1]) - 1);
}

if (steps.length) {
  document.getElementById("player").hidden = false;
  document.getElementById("steps").classList.add("one");
  document.getElementById("frames")?.classList.add("one");
  for (const button of document.querySelectorAll("[data-move]")) button.addEventListener("click", () => { stop(); show(at + Number(button.dataset.move)); });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value) - 1); });
  play.addEventListener("click", () => (timer ? stop() : start()));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, button, a")) return;
    if (event.key === "ArrowRight") { stop(); show(at + 1); }
    if (event.key === "ArrowLeft") { stop(); show(at - 1); }
  });
  addEventListener("hashchange", fromAddress);
  show(0);
  fromAddress();
}
