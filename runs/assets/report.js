"use strict";
// Curves: drawn from the data block below the page, again when the axis or the colour scheme changes.
const data = JSON.parse(document.getElementById("curve-data").textContent);
const plot = document.getElementById("curves");
let axis = "main";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Main steps step back where a younger state has taken the line's place: there a line ends and another begins.
function parted(x, ...columns) {
  const parts = [[], ...columns.map(() => [])];
  x.forEach((value, i) => {
    if (i && value < x[i - 1]) parts.forEach((part) => part.push(null));
    [value, ...columns.map((column) => column[i])].forEach((entry, k) => parts[k].push(entry));
  });
  return parts;
}

function traces() {
  const line = (column, axisY, name) => {
    const [x, y] = parted(data[axis], column);
    return {
      x, y, yaxis: axisY, name, mode: "lines", line: { color: colour("accent"), width: 1.3 }, opacity: 0.6,
      hovertemplate: "%{y:.3g} at %{x:,}<extra>" + name + "</extra>", showlegend: false,
    };
  };
  const marks = (key, axisY, name) => {
    const rows = data.evaluated.filter((index) => data[key][index] !== null);
    const [x, y] = parted(rows.map((index) => data[axis][index]), rows.map((index) => data[key][index]));
    return {
      x, y, yaxis: axisY, name,
      mode: "lines+markers", marker: { color: colour("accent"), size: 7 }, line: { color: colour("accent"), width: 2 },
      hovertemplate: "%{y:.3g} at %{x:,}<extra>" + name + "</extra>", showlegend: false,
    };
  };
  return [
    line(data.train_return, "y", "training episodes"), marks("evaluation_return", "y", "evaluation"),
    line(data.train_success, "y2", "training episodes"), marks("evaluation_success", "y2", "evaluation"),
  ];
}

function layout() {
  const soft = colour("soft"), grid = colour("line");
  const side = (title, domain) => ({
    title: { text: title, font: { size: 13 } }, domain, gridcolor: grid, zeroline: false, automargin: true, fixedrange: true,
  });
  const mark = (p) => colour(p.cause === "rollback" ? "bad" : "good");
  const promotions = data.promotions.map((p) => ({
    type: "line", x0: p[axis], x1: p[axis], yref: "paper", y0: 0, y1: 1, line: { color: mark(p), width: 1.6, dash: "dot" },
  }));
  const labels = data.promotions.map((p) => ({
    x: p[axis], yref: "paper", y: 1, yanchor: "bottom", text: p.label, showarrow: false, font: { color: mark(p), size: 12 },
  }));
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: soft, size: 12, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 48, r: 10, t: 26, b: 44 }, hovermode: "closest", dragmode: "zoom",
    xaxis: { title: { text: axis === "main" ? "main environment steps" : "total environment steps, branches and evaluations included", font: { size: 13 } },
      gridcolor: grid, zeroline: false, anchor: "y2", rangemode: "tozero" },
    yaxis: side("sparse return", [0.42, 1]), yaxis2: { ...side("success rate", [0, 0.34]), range: [-0.04, 1.04] },
    shapes: promotions, annotations: labels,
  };
}

function draw() {
  Plotly.react(plot, traces(), layout(), { responsive: true, displaylogo: false, displayModeBar: false, showTips: false });
}

for (const button of document.querySelectorAll("[data-axis]")) {
  button.addEventListener("click", () => {
    axis = button.dataset.axis;
    document.querySelectorAll("[data-axis]").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    draw();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();

// A node of the graph opens its visits. Without this script the link's target is shown by CSS alone.
function openTarget() {
  const target = location.hash.startsWith("#node-") ? document.getElementById(location.hash.slice(1)) : null;
  if (target && !target.open) target.showModal();
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", () => history.replaceState(null, "", "#graph"));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.querySelector(".close").addEventListener("click", (event) => { event.preventDefault(); dialog.close(); });
}
addEventListener("hashchange", openTarget);
openTarget();
