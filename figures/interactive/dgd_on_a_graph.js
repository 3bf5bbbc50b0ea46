const { lists } = address;

// The chosen graph, with links that the reader added and without those cut.
explorable.links = ({ agents, topology, links }) =>
  lists.read(links).reduce(dynamics.toggled, dynamics.GRAPHS[topology](agents));

explorable.places = ({ agents, places }) => {
  const around = dynamics.range(agents).map((i) => {
    const turn = (2 * Math.PI * i) / agents + Math.PI / 2;
    return [100 * Math.cos(turn), -100 * Math.sin(turn)];
  });
  for (const [i, x, y] of lists.read(places)) around[i] = [x, y];
  return around;
};

explorable.owners = ({ agents, moved }) => {
  const owner = dynamics.range(agents * circle.own).map((a) => Math.floor(a / circle.own));
  for (const [point, agent] of lists.read(moved)) owner[point] = agent;
  return owner;
};

// What makes the drawn part of an address unreadable.
explorable.fault = (settings) => {
  const { agents, links, places, moved } = settings;
  const within = (value, end) => Number.isInteger(value) && value >= 0 && value < end;
  const pair = (list) => list.length === 2 && list[0] < list[1] && list.every((i) => within(i, agents));
  if (!lists.read(links).every(pair)) return `there are no links ${links} among ${agents} agents`;
  if (dynamics.parts(explorable.links(settings), agents) > 1) return `links ${links} leave a graph in parts`;
  const place = ([i, x, y, ...more]) => within(i, agents) && Math.abs(x) <= 140 && Math.abs(y) <= 120 && !more.length;
  if (!lists.read(places).every(place)) return `there are no places ${places}`;
  const move = ([a, i, ...more]) => within(a, agents * circle.own) && within(i, agents) && !more.length;
  if (!lists.read(moved).every(move)) return `there are no points ${moved}`;
  if (new Set(explorable.owners(settings)).size < agents) return `points ${moved} leave an agent without any`;
  return "";
};

// --- the run -------------------------------------------------------------------------------------

// Everything but the round shown, computed once for these settings.
explorable.run = (settings) => {
  const { agents, step, heterogeneity, rounds } = settings;
  const p = circle.problem(agents, heterogeneity, lists.read(settings.moved));
  const links = explorable.links(settings);
  const W = dynamics.metropolis(links, agents);
  const best = dynamics.optimum(p);
  const everybody = Float64Array.from(dynamics.range(agents * p.d).map((k) => best[k % p.d]));
  const iterates = [];
  dynamics.rollout("dgd", dynamics.runOn(p, W, step, rounds), (_, x) => iterates.push(x));
  return {
    p, links, W, iterates,
    least: dynamics.commonLoss(p, everybody)[0],
    limit: dynamics.limitOfDGD(p, W),
    spectrum: dynamics.eigenvalues(dynamics.roundOfDGD(p, W, step)),
    gap: 1 - dynamics.eigenvalues(W).map(Math.abs).sort((a, b) => b - a)[1],
    losses: iterates.map((x) => dynamics.commonLoss(p, x)),
    pulls: iterates.map((x) => explorable.pulls(links, W, x, p.d)),
  };
};

// How far each link moves the agents at its ends in one round: w_ij |x_i - x_j|.
explorable.pulls = (links, W, x, d) =>
  links.map(([i, j]) => W[i][j] * Math.hypot(...dynamics.range(d).map((k) => x[i * d + k] - x[j * d + k])));

let ran = { of: null, run: null };

explorable.runOf = ({ at, places, ...settings }) => {
  const of = JSON.stringify(settings);
  if (ran.of !== of) ran = { of, run: explorable.run(settings) };
  return ran.run;
};

explorable.compute = (settings) => {
  const { agents, step, rounds, at } = settings;
  const run = explorable.runOf(settings);
  const { least, limit, spectrum, losses } = run;
  const every = Math.max(1, Math.round(rounds / 100));
  const times = dynamics.range(rounds + 1).filter((round) => round % every === 0 || round === rounds);
  const seen = times.map((round) => losses[round]);
  const mean = (round) => dynamics.sum(losses[round], (l) => l) / agents;
  const unstable = spectrum[0] < -1;
  explorable.draw(settings);
  return {
    sources: {
      curves: {
        x: dynamics.range(agents).map(() => times),
        y: dynamics.range(agents).map((i) => seen.map((all) => explorable.shown(all[i]))),
        colour: explorable.agentColours(agents),
      },
      least: { x: [0, rounds], y: [least, least] },
      values: {
        x: dynamics.range(spectrum.length), y: spectrum.map((value) => Math.max(value, -1e6)),
        colour: spectrum.map((value) => (value < -1 ? "#D55E00" : explorable.dark() ? "#6cbcf0" : "#0072B2")),
      },
    },
    ranges: {
      errors_x: { start: 0, end: rounds },
      errors_y: { start: least / 1.3, end: 1.3 * Math.max(...seen.flat().map(explorable.shown)) },
      spectrum_x: { start: -1, end: spectrum.length },
      spectrum_y: { start: Math.min(-1.25, spectrum[0] * 1.1), end: 1.25 },
    },
    readouts: { limit, gap: run.gap, smallest: spectrum[0], now: mean(at), mean: mean(rounds), optimum: least },
    said: unstable
      ? `Unstable: the step size ${step.toPrecision(3)} is above the limit ${limit.toPrecision(3)}, errors grow from round to round.`
      : `Stable: the step size ${step.toPrecision(3)} is ${Math.round((100 * step) / limit)} % of the limit.`,
    unstable,
    final: losses[rounds],
    seen,
    times,
    run,
  };
};

// --- what is drawn -------------------------------------------------------------------------------

// The agent that is held: it takes the points that are painted, and the next link.
let held = null;

const pictures = {};

explorable.draw = (settings) => {
  const { agents, at } = settings;
  const run = explorable.runOf(settings);
  if (held >= agents) held = null;
  const about = {
    ...settings, run, colours: explorable.agentColours(agents), places: explorable.places(settings),
    excess: run.losses[at].map((loss) => Math.sqrt(Math.max(explorable.shown(loss) - run.least, 0))),
  };
  drawGraph(about);
  drawData(about);
  explorable.models.playhead.location = at;
  travel(about, drawing.still() ? 0.5 : 0);
  document.getElementById("python").textContent = explorable.python(settings);
};

function drawGraph({ agents, run, colours, places, excess }) {
  const layer = (name) => drawing.group(pictures.graph, name);
  const line = ([i, j]) => ({ x1: places[i][0], y1: places[i][1], x2: places[j][0], y2: places[j][1] });
  drawing.each(layer("links"), "line", run.links, (link) => ({ ...line(link), stroke: "var(--soft)", "stroke-width": 1.6 }));
  drawing.each(layer("cut"), "line", run.links, (link, k) => ({
    ...line(link), stroke: "transparent", "stroke-width": 14, "data-link": k, style: "cursor: pointer",
  }));
  drawing.group(pictures.graph, "values");
  const largest = Math.max(...excess, 1e-12);
  drawing.each(layer("agents"), "circle", places, ([x, y], i) => ({
    cx: x, cy: y, r: 10 + 8 * (excess[i] / largest), fill: colours[i], "data-agent": i, tabindex: 0, role: "button",
    stroke: held === i ? "var(--ink)" : "var(--card)", "stroke-width": held === i ? 3.5 : 1.5,
    "aria-pressed": String(held === i), "aria-label": described(i, run),
  }));
  drawing.each(layer("names"), "text", places, ([x, y], i) => ({
    x, y, text: i, dy: ".35em", "text-anchor": "middle", style: `fill: ${explorable.inkOn(colours[i])}; pointer-events: none`,
  }));
}

function described(i, { links, p }) {
  const others = links.filter((link) => link.includes(i)).map(([a, b]) => (a === i ? b : a));
  return `Agent ${i}, linked with ${others.join(", ")}; ${p.counts[i]} points`;
}

const across = (u) => (300 * u) / (2 * Math.PI) - 150;
const up = (y) => -45 * Math.max(-9, Math.min(9, y));

function drawData({ agents, at, run: { p, iterates }, colours }) {
  const layer = (name) => drawing.group(pictures.data, name);
  drawing.each(layer("axis"), "line", [0], () => ({ x1: -150, x2: 150, y1: 0, y2: 0, stroke: "var(--line)" }));
  const angles = dynamics.range(73).map((k) => (2 * Math.PI * k) / 72);
  const value = (i) => (phi) => dynamics.sum(dynamics.range(p.d), (k) => phi[k] * iterates[at][i * p.d + k]);
  const features = angles.map(circle.features);
  drawing.each(layer("curves"), "path", dynamics.range(agents), (i) => ({
    d: drawing.path(angles.map(across), features.map(value(i)).map((y) => up(Number.isFinite(y) ? y : 9))),
    fill: "none", stroke: colours[i], "stroke-width": held === i ? 3 : 1.4,
  }));
  const focused = [...layer("points").children].indexOf(document.activeElement);
  drawing.each(layer("points"), "circle", p.angle, (u, a) => ({
    cx: across(u), cy: up(p.y[a]), r: 5.5, fill: colours[p.owner[a]], "data-point": a, role: "button",
    tabindex: a === Math.max(focused, 0) ? 0 : -1, stroke: p.owner[a] === held ? "var(--ink)" : "var(--card)",
    "stroke-width": p.owner[a] === held ? 2.5 : 1,
    "aria-label": `Point at ${Math.round((180 * u) / Math.PI)} degrees, target ${p.y[a].toFixed(2)}, with agent ${p.owner[a]}`,
  }));
  const shown = [[-150, "0°", "start"], [0, "180°", "middle"], [150, "360°", "end"]];
  drawing.each(layer("names"), "text", shown, ([x, text, anchor]) => ({ x, y: 112, text, "text-anchor": anchor }));
}

// Values on their way along the links, `share` of a round after it began: as large as what they change.
function travel({ run, at, rounds, places, colours }, share) {
  const largest = Math.max(...run.pulls[0], ...run.pulls.flat().filter(Number.isFinite), 1e-12);
  const sent = at < rounds && share > 0 ? run.links.flatMap(([i, j], k) => [[i, j, k], [j, i, k]]) : [];
  drawing.each(drawing.group(pictures.graph, "values"), "circle", sent, ([from, to, k]) => {
    const [[x, y], [toX, toY]] = [places[from], places[to]];
    const length = Math.hypot(toX - x, toY - y) || 1;
    return {
      cx: x + share * (toX - x) - (4 * (toY - y)) / length, cy: y + share * (toY - y) + (4 * (toX - x)) / length,
      r: 1.2 + 7 * Math.sqrt(run.pulls[at][k] / largest), fill: colours[from], stroke: "var(--card)", style: "pointer-events: none",
    };
  });
}

// --- changes by hand -----------------------------------------------------------------------------

const hold = (i) => {
  held = i;
  explorable.draw(explorable.settings());
};

// Adds the link or cuts it; a cut that would leave the graph in parts is refused.
explorable.toggle = (i, j) => {
  const settings = explorable.settings();
  const links = lists.write(dynamics.toggled(lists.read(settings.links), [i, j]));
  if (dynamics.parts(explorable.links({ ...settings, links }), settings.agents) > 1)
    explorable.say(`The link between ${i} and ${j} stays: without it the graph falls into parts, and no prediction is made of these.`);
  else explorable.edit({ links });
};

explorable.press = (i) => {
  if (held === null || held === i) return hold(held === i ? null : i);
  explorable.toggle(held, i);
  return hold(null);
};

explorable.place = (i, [x, y]) => {
  const settings = explorable.settings();
  const bounded = [Math.max(-140, Math.min(140, Math.round(x))), Math.max(-120, Math.min(120, Math.round(y)))];
  const others = lists.read(settings.places).filter(([agent]) => agent !== i);
  document.getElementById("control-places").value = lists.write([...others, [i, ...bounded]]);
  explorable.draw(explorable.settings());
};

// The point goes to the agent that is held; an agent's last point stays.
explorable.paint = (a) => {
  const settings = explorable.settings();
  const owner = explorable.owners(settings);
  if (held === null) return explorable.say("Choose an agent of the graph first: the points that you paint go to it.");
  if (owner[a] === held) return undefined;
  if (owner.filter((i) => i === owner[a]).length === 1)
    return explorable.say(`Agent ${owner[a]} keeps its last point: an agent without any has nothing to learn from.`);
  owner[a] = held;
  const moved = owner.flatMap((i, point) => (i === Math.floor(point / circle.own) ? [] : [[point, i]]));
  document.getElementById("control-moved").value = lists.write(moved);
  explorable.say("");
  return explorable.changed();
};

const ARROWS = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] };

function keyOnAgent(event) {
  const i = Number(event.target.dataset.agent);
  if (event.key === "Enter" || event.key === " ") explorable.press(i);
  else if (event.key === "Escape") hold(null);
  else if (ARROWS[event.key]) {
    const [x, y] = explorable.places(explorable.settings())[i];
    explorable.place(i, [x + ARROWS[event.key][0], y + ARROWS[event.key][1]]);
    explorable.edit({});
  } else return;
  event.preventDefault();
}

// From point to point in the order of their angles.
function keyOnPoint(event) {
  const a = Number(event.target.dataset.point);
  if (event.key === "Enter" || event.key === " ") {
    explorable.paint(a);
    explorable.commit();
  } else if (ARROWS[event.key]) {
    const { angle } = explorable.runOf(explorable.settings()).p;
    const order = dynamics.range(angle.length).sort((b, c) => angle[b] - angle[c]);
    const next = order.indexOf(a) + (event.key === "ArrowLeft" || event.key === "ArrowUp" ? -1 : 1);
    const points = event.target.parentNode.children;
    event.target.setAttribute("tabindex", -1);
    drawing.set(points[order[(next + order.length) % order.length]], { tabindex: 0 }).focus();
  } else return;
  event.preventDefault();
}

function takeHold() {
  let taken = null;
  drawing.hold(pictures.graph, {
    down: (_, target) => (taken = target.dataset.agent || target.dataset.link ? target.dataset : null),
    move: (place) => taken.agent && explorable.place(Number(taken.agent), place),
    up: (moved) => {
      if (moved) explorable.edit({});
      else if (taken.agent) explorable.press(Number(taken.agent));
      else explorable.toggle(...explorable.runOf(explorable.settings()).links[taken.link]);
    },
  });
  const under = ({ clientX, clientY }) => document.elementFromPoint(clientX, clientY)?.dataset.point;
  drawing.hold(pictures.data, {
    down: (_, target) => {
      if (target.dataset.point) explorable.paint(Number(target.dataset.point));
      return true;
    },
    move: (_, event) => under(event) && explorable.paint(Number(under(event))),
    up: explorable.commit,
  });
  pictures.graph.addEventListener("keydown", (event) => event.target.dataset.agent && keyOnAgent(event));
  pictures.data.addEventListener("keydown", (event) => event.target.dataset.point && keyOnPoint(event));
}

// --- playing -------------------------------------------------------------------------------------

let playing = null;

// So many milliseconds for the k-th round that is played: first slowly, then faster.
const pace = (k) => (drawing.still() ? 700 : Math.max(50, 1000 * 0.88 ** k));

explorable.play = () => {
  if (playing) return explorable.pause();
  const { at, rounds } = explorable.settings();
  if (at >= rounds) showRound(0);
  playing = { round: 0, begun: performance.now() };
  document.getElementById("button-play").textContent = "Pause";
  return requestAnimationFrame(playOn);
};

explorable.pause = () => {
  playing = null;
  document.getElementById("button-play").textContent = "Play";
  explorable.commit();
  explorable.changed();
};

function playOn(now) {
  if (!playing) return;
  const share = (now - playing.begun) / pace(playing.round);
  const settings = explorable.settings();
  if (share >= 1) {
    playing = { round: playing.round + 1, begun: now };
    showRound(settings.at + 1);
  } else if (!drawing.still()) {
    travel({ ...settings, run: explorable.runOf(settings), places: explorable.places(settings),
      colours: explorable.agentColours(settings.agents) }, share);
  }
  if (settings.at + 1 > settings.rounds) explorable.pause();
  else requestAnimationFrame(playOn);
}

function showRound(round) {
  const slider = document.getElementById("control-at");
  slider.value = round;
  explorable.show(slider);
  explorable.draw(explorable.settings());
}

// --- the same in Python --------------------------------------------------------------------------

explorable.python = (settings) => {
  const { p, links } = explorable.runOf(settings);
  const array = (values) => `np.array([${[...values].join(", ")}])`;
  return `import numpy as np
import ntkdyn as nd

angle = ${array(p.angle)}
target = ${array(p.y)}
owner = ${array(p.owner)}
features = np.stack([
    np.ones_like(angle),
    np.cos(angle) / 2**0.5, np.sin(angle) / 2**0.5,
    np.cos(2 * angle) / 2, np.sin(2 * angle) / 2,
], axis=1)
problem = nd.KernelProblem(features @ features.T, target[:, None], owner)
links = [${links.map(([i, j]) => `(${i}, ${j})`).join(", ")}]
W = nd.graphs.metropolis(nd.graphs.from_edges(links, agents=${settings.agents}))
record = nd.predict(problem, nd.methods.dgd(step_size=${settings.step}), W, ${settings.rounds})
print(record["global_loss"].values[-1])  # the common objective at every agent
`;
};

async function copy() {
  const code = document.getElementById("python");
  getSelection().selectAllChildren(code);
  const copied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
  const done = copied || document.execCommand("copy");
  document.getElementById("copied").textContent = done ? "Copied." : "Your browser does not let pages copy: the text is selected.";
}

explorable.prepare = () => {
  for (const name of ["graph", "data"]) pictures[name] = document.getElementById(`drawing-${name}`);
  takeHold();
  document.getElementById("button-play").addEventListener("click", explorable.play);
  document.getElementById("copy").addEventListener("click", copy);
  document.getElementById("reset").addEventListener("click", () => hold(null));
};
