"use strict";
// Charts of one run or of two, drawn with Plotly from JSON of this server; again when the axis, the colours or the run change.
const plot = document.getElementById("curves");
const terms = document.getElementById("term-curves");
const one = plot.dataset.curves, two = plot.dataset.compare;
const options = { responsive: true, displaylogo: false, displayModeBar: false, showTips: false };
let axis = "main", data = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const side = (title, domain) => ({
  title: { text: title, font: { size: 13 } }, domain, gridcolor: colour("line"), zeroline: false, automargin: true, fixedrange: true,
});
const stageColours = { exploring: "control", emerging: "accent", improving: "good", plateaued: "warn", regressing: "bad", converged: "accent" };
const verdictColours = { accept: "good", out_of_reward: "good", reject: "bad", "under way": "accent" };

// Main steps step back where a younger state has taken the line's place: there a line ends and another begins.
function parted(x, ...columns) {
  const parts = [[], ...columns.map(() => [])];
  x.forEach((value, i) => {
    if (i && value < x[i - 1]) parts.forEach((part) => part.push(null));
    [value, ...columns.map((column) => column[i])].forEach((entry, k) => parts[k].push(entry));
  });
  return parts;
}

function learning(run, tint, named) {
  const line = (key, axisY, what) => {
    const [x, y] = parted(run[axis], run[key]);
    return {
      x, y, yaxis: axisY, mode: "lines", line: { color: tint, width: 1.3 }, opacity: 0.55, showlegend: false,
      hovertemplate: `%{y:.3g} at %{x:,}<extra>${what}${named}</extra>`,
    };
  };
  const dots = (key, axisY, what) => {
    const rows = run.evaluated.filter((i) => run[key][i] !== null);
    const [x, y] = parted(rows.map((i) => run[axis][i]), rows.map((i) => run[key][i]));
    return {
      x, y, yaxis: axisY, mode: "lines+markers", showlegend: false,
      marker: { color: tint, size: 6 }, line: { color: tint, width: 2 }, hovertemplate: `%{y:.3g} at %{x:,}<extra>${what}${named}</extra>`,
    };
  };
  return [
    line("train_return", "y", "training episodes"), dots("evaluation_return", "y", "evaluation"),
    line("train_success", "y2", "training episodes"), dots("evaluation_success", "y2", "evaluation"),
  ];
}

function timeline(run) {
  const points = run.interventions;
  return {
    x: points.map((p) => (axis === "main" ? p.steps : p.total)), y: points.map(() => 0.5), yaxis: "y3", mode: "markers", showlegend: false,
    marker: { symbol: "diamond", size: 13, color: points.map((p) => colour(verdictColours[p.verdict] || "warn")), line: { color: colour("paper"), width: 1.5 } },
    customdata: points.map((p) => [p.outcome, p.href, p.proposals, p.branches, p.branch_steps]),
    hovertemplate: "intervention at %{x:,}: %{customdata[0]}<br>%{customdata[2]} proposals, %{customdata[3]} branches, %{customdata[4]:,} steps<extra></extra>",
  };
}

function marks(run) {
  const tint = (p) => colour(p.cause === "rollback" ? "bad" : "good");
  const lines = run.promotions.map((p) => ({
    type: "line", x0: p[axis], x1: p[axis], yref: "paper", y0: 0, y1: 1, line: { color: tint(p), width: 1.6, dash: "dot" },
  }));
  const labels = run.promotions.map((p) => ({
    x: p[axis], yref: "paper", y: 1, yanchor: "bottom", text: p.label, showarrow: false, font: { color: tint(p), size: 12 },
  }));
  return { lines, labels };
}

function bands(run) {
  const stages = run.stages.map((s) => (axis === "main" ? s : { stage: s.stage, from: s.total_from, to: s.total_to }));
  const room = Math.max(1, ...stages.map((s) => s.to));
  return {
    shapes: stages.map((s) => ({
      type: "rect", x0: s.from, x1: s.to, yref: "paper", y0: 0.02, y1: 0.1, line: { width: 0 },
      fillcolor: colour(stageColours[s.stage] || "control"), opacity: 0.28, layer: "below",
    })),
    labels: stages.filter((s) => s.to - s.from > room / 12).map((s) => ({
      x: (s.from + s.to) / 2, yref: "paper", y: 0.0, yanchor: "top", text: s.stage, showarrow: false, font: { size: 11, color: colour("soft") },
    })),
  };
}

function layout(more) {
  const wide = axis === "main" ? "main environment steps" : "total environment steps, branches and evaluations included";
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: "zoom",
    font: { color: colour("soft"), size: 12, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 48, r: 10, t: 26, b: 52 },
    xaxis: { title: { text: wide, font: { size: 13 } }, gridcolor: colour("line"), zeroline: false, anchor: "free", position: 0, rangemode: "tozero", ticklabelstandoff: more ? 14 : 0 },
    ...more,
  };
}

function drawOne(run) {
  const { lines, labels } = marks(run), strip = bands(run);
  const axes = {
    yaxis: side("sparse return", [0.5, 1]), yaxis2: { ...side("success rate", [0.16, 0.44]), range: [-0.04, 1.04] },
    yaxis3: { domain: [0.02, 0.1], range: [0, 1], visible: false, fixedrange: true },
    shapes: [...strip.shapes, ...lines], annotations: [...strip.labels, ...labels],
  };
  Plotly.react(plot, [...learning(run, colour("accent"), ""), timeline(run)], layout(axes), options).then(() => {
    plot.removeAllListeners("plotly_click");
    plot.on("plotly_click", (event) => {
      const target = event.points[0].customdata;
      if (Array.isArray(target)) location.assign(target[1]);
    });
  });
  drawTerms(run);
}

function drawTerms(run) {
  if (!run.terms.length) {
    terms.className = "nothing";
    terms.textContent = "No term has been in force.";
    return;
  }
  const tints = ["accent", "warn", "good", "bad", "control", "ink"];
  const traces = run.terms.map((t, i) => {
    const [x, y, customdata] = parted(t.steps, t.size, t.mean);
    return {
      x, y, customdata, name: t.name, mode: "lines", showlegend: true, line: { color: colour(tints[i % tints.length]), width: 1.8 },
      hovertemplate: "%{y:.4f} a step (with its sign %{customdata:+.4f}) at %{x:,}<extra>" + t.name + "</extra>",
    };
  });
  const last = run.main.reduce((most, steps) => Math.max(most, steps), 0);
  Plotly.react(terms, traces, {
    ...layout(), margin: { l: 48, r: 10, t: 10, b: 44 }, xaxis: { title: { text: "main environment steps", font: { size: 13 } }, gridcolor: colour("line"), zeroline: false, range: [0, last] },
    yaxis: side("paid a step", [0, 1]), legend: { orientation: "h", y: 1.15, x: 0 },
  }, options);
}

function drawTwo(runs) {
  const tints = [colour("accent"), colour("warn")];
  const axes = { yaxis: side("sparse return", [0.42, 1]), yaxis2: { ...side("success rate", [0, 0.34]), range: [-0.04, 1.04] } };
  const shapes = runs.flatMap((run, i) => marks(run).lines.map((x) => ({ ...x, line: { ...x.line, color: tints[i] } })));
  Plotly.react(plot, runs.flatMap((run, i) => learning(run, tints[i], `, ${run.name}`)), layout({ ...axes, shapes }), options);
}

function draw() {
  if (data) { if (two) drawTwo(data); else drawOne(data); }
}

async function load() {
  const answer = await fetch(one || two);
  if (answer.ok) { data = await answer.json(); draw(); }
}

for (const button of document.querySelectorAll("[data-axis]")) {
  button.addEventListener("click", () => {
    axis = button.dataset.axis;
    document.querySelectorAll("[data-axis]").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    draw();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.addEventListener("run-changed", load);
load();
