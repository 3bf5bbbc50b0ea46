// Six agents own two points each of twelve on a circle, and train a network of one hidden layer,
// f(x) = sum_k v_k tanh(w_k . x + b_k) / sqrt(width). An agent's parameters lie as w, w', b, v, each by unit.
const network = {
  agents: 6, own: 2, points: 12,
  task: circleTask(12, 2),

  // Normal draws in single precision, unit by unit: the first units of a wide network are a narrow one.
  start(width, number) {
    const uniform = mulberry32(1000 + number);
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const theta = new Float64Array(4 * width);
    for (let k = 0; k < width; k++) for (let part = 0; part < 4; part++) theta[part * width + k] = Math.fround(normal());
    return theta;
  },

  // Outputs at all points of the network whose parameters begin at `first`.
  outputs(theta, width, first = 0) {
    const { inputs } = this.task;
    const [second, bias, readout] = [first + width, first + 2 * width, first + 3 * width];
    return Float64Array.from(inputs, ([x, y]) => {
      let sum = 0;
      for (let k = 0; k < width; k++)
        sum += theta[readout + k] * tanh(theta[first + k] * x + theta[second + k] * y + theta[bias + k]);
      return sum / Math.sqrt(width);
    });
  },

  // One row of derivatives for every point.
  jacobian(theta, width) {
    const scale = 1 / Math.sqrt(width);
    return this.task.inputs.map(([x, y]) => {
      const row = new Float64Array(4 * width);
      for (let k = 0; k < width; k++) {
        const t = tanh(theta[k] * x + theta[width + k] * y + theta[2 * width + k]);
        const bend = scale * theta[3 * width + k] * (1 - t * t);
        row[k] = bend * x;
        row[width + k] = bend * y;
        row[2 * width + k] = bend;
        row[3 * width + k] = scale * t;
      }
      return row;
    });
  },

  // All agents' gradients, each of the squared error on its own points.
  gradient(width) {
    const { inputs, targets, owner } = this.task;
    const scale = 1 / Math.sqrt(width);
    const t = new Float64Array(width);
    return (theta) => {
      const g = new Float64Array(theta.length);
      inputs.forEach(([x, y], a) => {
        const first = owner[a] * 4 * width;
        const [second, bias, readout] = [first + width, first + 2 * width, first + 3 * width];
        let error = 0;
        for (let k = 0; k < width; k++) {
          t[k] = tanh(theta[first + k] * x + theta[second + k] * y + theta[bias + k]);
          error += theta[readout + k] * t[k];
        }
        error = ((error * scale - targets[a]) * scale) / this.own;
        for (let k = 0; k < width; k++) {
          const bend = error * theta[readout + k] * (1 - t[k] * t[k]);
          g[first + k] += bend * x;
          g[second + k] += bend * y;
          g[bias + k] += bend;
          g[readout + k] += error * t[k];
        }
      });
      return g;
    };
  },
};

// Faster than Math.tanh, and as near: off by rounding to one.
const tanh = (x) => 1 - 2 / (Math.exp(2 * x) + 1);

function circleTask(points, own) {
  const angle = dynamics.range(points).map((a) => (2 * Math.PI * (a + 0.5)) / points);
  return {
    inputs: angle.map((u) => [Math.fround(Math.cos(u)), Math.fround(Math.sin(u))]),
    targets: angle.map((u) => Math.fround(Math.sin(u) + 0.5 * Math.cos(2 * u))),
    owner: angle.map((_, a) => Math.floor(a / own)),
  };
}

// Uniform numbers in [0, 1) from a seed (T. Ettinger's mulberry32).
function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const dot = (a, b) => {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
};

// --- training and prediction -----------------------------------------------------------------------

// Outputs (round, agent, point) of real networks, in rounds 0, every, 2 every, ...
explorable.trained = ({ method, W, step, width, start, rounds, every }) => {
  const size = 4 * width;
  const theta = new Float64Array(network.agents * size);
  for (const i of dynamics.range(network.agents)) theta.set(network.start(width, start), i * size);
  const run = { grad: network.gradient(width), mix: dynamics.mixer(W, size), eta: step, start: theta, rounds };
  const seen = [];
  dynamics.rollout(method, run, (round, x) => {
    if (round % every === 0)
      seen.push(dynamics.range(network.agents).map((i) => network.outputs(x, width, i * size)));
  });
  return seen;
};

// The network linear around a: theta_i = a + J'c_i + sum_j M_ij d_j, with d_j what agent j is beside a.
explorable.linear = (a, width) => {
  const J = network.jacobian(a, width);
  return { a, J, K: J.map((row) => Float64Array.from(J, (other) => dot(row, other))), f: network.outputs(a, width) };
};

// Rows of derivatives of the outputs in c and M, where the d_j are `beside`: K and J d_j side by side.
function slopes({ J, K }, beside) {
  const size = J.length + beside.length;
  const rows = new Float64Array(J.length * size);
  J.forEach((row, p) => rows.set([...K[p], ...beside.map((vector) => dot(row, vector))], p * size));
  return rows;
}

// The output at point p of an agent whose c and M begin at `first`.
function linearOutput(f, rows, size, x, first, p) {
  let value = f[p];
  for (let k = 0, at = p * size; k < size; k++, at++) value += rows[at] * x[first + k];
  return value;
}

// theta_i - a of every agent.
function lifted({ J }, beside, x) {
  const size = J.length + beside.length;
  return beside.map((_, i) => {
    const terms = [...J, ...beside].flatMap((vector, b) => [x[i * size + b], vector]);
    return dynamics.combine(...terms);
  });
}

// One segment: the method's own steps on (c_i, M_i), from c = 0 and M = I. Returns theta_i - a at its end.
function segment({ method, W, step }, linear, beside, rounds, see) {
  const { targets, owner } = network.task;
  const { agents, own, points } = network;
  const size = points + agents;
  const everybody = dynamics.range(agents);
  const rows = slopes(linear, beside);
  const start = new Float64Array(agents * size);
  for (let i = 0; i < agents; i++) start[i * size + points + i] = 1;
  const grad = (x) => {
    const g = new Float64Array(x.length);
    for (let p = 0; p < points; p++) {
      const first = owner[p] * size;
      g[first + p] = (linearOutput(linear.f, rows, size, x, first, p) - targets[p]) / own;
    }
    return g;
  };
  let last = start;
  dynamics.rollout(method, { grad, mix: dynamics.mixer(W, size), eta: step, start, rounds }, (round, x) => {
    see(round, () => everybody.map((i) => linear.f.map((_, p) => linearOutput(linear.f, rows, size, x, i * size, p))));
    last = x;
  });
  return lifted(linear, beside, last);
}

// Outputs (round, agent, point), linearized anew in the rounds `anchors`: at the predicted mean agent, or where
// another prediction has been, of which `shared` are the linearizations.
explorable.predicted = (run, anchors, shared = null) => {
  const { width, start, rounds, every } = run;
  const linears = shared || [explorable.linear(network.start(width, start), width)];
  const seen = [];
  let beside = dynamics.range(network.agents).map(() => new Float64Array(4 * width));
  anchors.forEach((begun, number) => {
    const end = anchors[number + 1] ?? rounds;
    beside = segment(run, linears[number], beside, end - begun, (round, outputs) => {
      const at = begun + round;
      if (at % every === 0 && (at < end || end === rounds)) seen.push(outputs());
    });
    if (number + 1 === anchors.length) return;
    const { a } = linears[number];
    if (!shared) {
      const ones = beside.flatMap((vector) => [1 / beside.length, vector]);
      linears.push(explorable.linear(dynamics.combine(1, a, ...ones), width));
    }
    const next = linears[number + 1].a;
    beside = beside.map((vector) => dynamics.combine(1, vector, 1, a, -1, next));
  });
  return { seen, linears };
};

// --- gaps ------------------------------------------------------------------------------------------

// Share of the distance travelled under which what an agent differs in is not judged.
const FLOOR = 1e-3;

const norm = (values) => Math.sqrt(dot(values, values));
const minus = (one, other) => dynamics.combine(1, one, -1, other);
const meanOf = (rows) => dynamics.combine(...rows.flatMap((row) => [1 / rows.length, row]));
const apart = (rows) => {
  const mean = meanOf(rows);
  return rows.map((row) => minus(row, mean));
};
const ratio = (part, whole) =>
  Number.isFinite(part) && Number.isFinite(whole) ? (whole > 0 ? part / whole : 0) : Infinity;

// Of one round: outputs (agent, point) against what was observed, which began at `initial`.
explorable.gaps = (outputs, observed, initial) => {
  const moved = observed.map((row) => norm(minus(row, initial)));
  const differing = apart(observed);
  const judged = (part, whole, travelled) =>
    ratio(whole, travelled) > FLOOR || ratio(part, whole) === Infinity ? ratio(part, whole) : NaN;
  const missed = apart(outputs).map((row, i) => minus(row, differing[i]));
  const whole = (rows) => norm(rows.map(norm));
  return {
    gap: outputs.map((row, i) => ratio(norm(minus(row, observed[i])), moved[i])),
    common: ratio(norm(minus(meanOf(outputs), meanOf(observed))), norm(minus(meanOf(observed), initial))),
    deviation: judged(whole(missed), whole(differing), norm(moved)),
  };
};

// What every agent differs in along what it differed in at the end, as a share of the distance travelled by then.
explorable.along = (outputs, last, initial) => {
  const end = apart(last);
  return apart(outputs).map((row, i) => ratio(dot(row, end[i]), norm(end[i]) * norm(minus(last[i], initial))));
};

// --- what was not run --------------------------------------------------------------------------------

const near = (V, W) => V.every((row, i) => row.every((value, j) => Math.abs(value - W[i][j]) <= 1e-9));

// Name -> the run with one thing wrong; without those whose weights are as they were.
explorable.alternatives = (run) => {
  const { W, method, step } = run;
  const complete = W.map((row) => row.map(() => 1 / W.length));
  const permuted = explorable.data.orders
    .map((order) => order.map((i) => order.map((j) => W[i][j])))
    .find((V) => !near(V, W));
  const wrong = {
    complete: !near(complete, W) && { ...run, W: complete },
    permuted: permuted && { ...run, W: permuted },
    method: { ...run, method: method === "dgd" ? "atc" : "dgd" },
    smaller: { ...run, step: 0.9 * step },
    larger: { ...run, step: 1.1 * step },
  };
  return Object.fromEntries(Object.entries(wrong).filter(([, other]) => other));
};

// Name -> outputs (round, agent, point), of the prediction and of whatever else might explain what was observed.
explorable.explanations = (run, anchors) => {
  const { seen, linears } = explorable.predicted(run, anchors);
  const found = { prediction: seen, start: explorable.predicted(run, [0], linears).seen };
  for (const [name, other] of Object.entries(explorable.alternatives(run)))
    found[name] = explorable.predicted(other, anchors, linears).seen;
  found.neighbour = seen.map((outputs) => outputs.map((_, i) => outputs[(i + 1) % outputs.length]));
  found.nothing = seen.map((outputs) => outputs.map(() => linears[0].f));
  return found;
};

// --- the page ----------------------------------------------------------------------------------------

// Rounds from 0 on, close together where the kernel moves fast.
explorable.anchors = (kernels, rounds) => [
  ...new Set(dynamics.range(kernels).map((s) => Math.round(rounds * (s / kernels) ** 2))),
];

// Training does not know what predicts it, so that moving anchors trains nothing anew.
const trainings = new Map();

explorable.observed = (run) => {
  const key = JSON.stringify(run);
  if (trainings.size > 20) trainings.clear();
  if (!trainings.has(key)) trainings.set(key, explorable.trained(run));
  return trainings.get(key);
};

const percent = (share) =>
  Number.isFinite(share) ? `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))}\u00a0%` : "diverged";

// What the gaps in the last round say, and which of the wrong explanations comes nearest.
explorable.verdict = (gaps, grown) => {
  const { names } = explorable.data;
  const right = gaps.prediction.deviation;
  const wrong = Object.keys(gaps).filter((name) => name !== "prediction" && name !== "start");
  const size = (name) => gaps[name].deviation;
  const named = (name) => `${percent(size(name))} (${names[name]})`;
  const nearest = (some) => some.reduce((best, name) => (size(name) < size(best) ? name : best));
  const alike = wrong.filter((name) => size(name) < 2 * right);
  const confused = alike.filter((name) => name !== "smaller" && name !== "larger");
  if (grown) return { said: "Unstable: errors grow, and there is nothing to tell." };
  if (Number.isNaN(right))
    return {
      said: `Cannot tell: agents differ by less than 0.1 % of the distance travelled; the gap of their common motion is ${percent(gaps.prediction.common)}.`,
    };
  if (confused.length)
    return {
      nearest: nearest(wrong),
      said: `Cannot tell the prediction, which misses ${percent(right)} of what agents differ in, from ${named(nearest(confused))}.`,
    };
  const clear = nearest(wrong.filter((name) => !alike.includes(name)));
  const but = alike.length ? ` Not told from it: ${alike.map(named).join(", ")}.` : "";
  return {
    nearest: nearest(wrong),
    said: `The prediction misses ${percent(right)} of what agents differ in; the nearest wrong explanation told from it, ${named(clear)}.${but}`,
  };
};

// The mean over agents of their losses on their own points.
const meanLoss = (outputs) => {
  const { targets, owner } = network.task;
  const squares = targets.map((target, p) => (outputs[owner[p]][p] - target) ** 2);
  return dynamics.sum(squares, (square) => square) / (2 * network.points);
};

// Both bars of every explanation, from the top down, as far as there is something to show.
explorable.bars = (gaps) => {
  const places = Object.keys(explorable.data.names).map((name, place) => [place, gaps[name]]);
  const values = (value) =>
    places.filter(([, gap]) => gap && !Number.isNaN(value(gap))).map(([place, gap]) => [place, value(gap)]);
  const rows = { deviations: values((gap) => gap.deviation), shares: values((gap) => Math.max(...gap.gap)) };
  const shown = (share) => Math.min(Math.max(100 * share, 1e-3), 1e6);
  const { start, end } = explorable.decades(Object.values(rows).flat().map(([, share]) => shown(share)));
  const range = { start: start / 1.3, end: end * 4 };
  const ink = explorable.dark() ? "#e9ebee" : "#1c2024";
  const bars = (row, shift) => ({
    y: row.map(([place]) => shift - place), x: row.map(([, share]) => shown(share)),
    from: row.map(() => range.start), label: row.map(([, share]) => ` ${percent(share)}`), ink: row.map(() => ink),
  });
  const right = gaps.prediction.deviation;
  const twice = Number.isNaN(right) ? { x: [], y: [] } : { x: [shown(2 * right), shown(2 * right)], y: [-9, 1] };
  return {
    sources: {
      deviations: bars(rows.deviations, 0.2), shares: bars(rows.shares, -0.2), twice,
    },
    range,
  };
};

// What an axis with zero inside can show.
const limited = (value) => (Number.isFinite(value) ? Math.max(-1e9, Math.min(value, 1e9)) : 1e9);

// Every agent's curves and marks, and the rounds in which the networks are linearized.
explorable.agentCurves = (differing, times, anchors) => {
  const colours = explorable.agentColours(network.agents);
  const shares = (rows) => rows.map((row) => row.map((share) => limited(100 * share)));
  const { predicted, around, observed } = Object.fromEntries(
    Object.entries(differing).map(([name, rows]) => [name, shares(rows)]),
  );
  const values = [predicted, observed].flat(2);
  const [low, high] = [Math.min(...values), Math.max(...values, 1e-6)];
  const range = { start: low - 0.08 * (high - low), end: high + 0.08 * (high - low) };
  const curves = (rows) => ({
    x: colours.map(() => times), y: colours.map((_, i) => rows.map((row) => row[i])), colour: colours,
  });
  return {
    sources: {
      predicted: curves(predicted), around: curves(around),
      marks: { x: times.flatMap((t) => colours.map(() => t)), y: observed.flat(), colour: times.flatMap(() => colours) },
      anew: { x: anchors.map((t) => [t, t]), y: anchors.map(() => [range.start, range.end]) },
    },
    range,
  };
};

// The gaps of both predictions in all rounds but the start, where there are any.
explorable.gapLines = (right, around, times) => {
  const line = (rows, name) => {
    const judged = dynamics.range(times.length).filter((k) => k && !Number.isNaN(rows[k][name]));
    return { x: judged.map((k) => times[k]), y: judged.map((k) => explorable.shown(100 * rows[k][name])) };
  };
  const sources = {
    deviation: line(right, "deviation"), common: line(right, "common"),
    deviation_around: line(around, "deviation"), common_around: line(around, "common"),
  };
  return { sources, range: explorable.decades(Object.values(sources).flatMap(({ y }) => y), 1e-4) };
};

explorable.compute = ({ kernels, width, step, topology, method, start, rounds }) => {
  const W = dynamics.metropolis(dynamics.GRAPHS[topology](network.agents), network.agents);
  const run = { method, W, step, width: 2 ** width, start, rounds, every: rounds / 20 };
  const anchors = explorable.anchors(kernels, rounds);
  const observed = explorable.observed(run);
  const explained = explorable.explanations(run, anchors);
  const initial = observed[0][0];
  const times = dynamics.range(observed.length).map((k) => k * run.every);
  const gaps = (name) => observed.map((outputs, k) => explorable.gaps(explained[name][k], outputs, initial));
  const [right, around] = ["prediction", "start"].map(gaps);
  const last = (outputs) => explorable.gaps(outputs.at(-1), observed.at(-1), initial);
  const final = Object.fromEntries(Object.entries(explained).map(([name, outputs]) => [name, last(outputs)]));
  const shrinks = (outputs) => meanLoss(outputs.at(-1)) < meanLoss(outputs[0]);
  const grown = !shrinks(explained.prediction) || !shrinks(observed);
  const along = (outputs) => outputs.map((each) => explorable.along(each, observed.at(-1), initial));
  const differing = { predicted: along(explained.prediction), around: along(explained.start), observed: along(observed) };
  const told = explorable.verdict(final, grown);
  const [agents, lines, bars] = [
    explorable.agentCurves(differing, times, anchors), explorable.gapLines(right, around, times), explorable.bars(final),
  ];
  return {
    sources: { ...agents.sources, ...lines.sources, ...bars.sources },
    ranges: {
      agents_x: { start: -rounds / 60, end: rounds * 1.02 }, agents_y: agents.range,
      gaps_x: { start: 0, end: rounds }, gaps_y: lines.range, explanations_x: bars.range,
    },
    readouts: {
      deviation: 100 * final.prediction.deviation, common: 100 * final.prediction.common,
      share: 100 * Math.max(...final.prediction.gap), around: 100 * final.start.deviation,
      nearest: told.nearest ? 100 * final[told.nearest].deviation : "–", loss: meanLoss(observed.at(-1)),
    },
    said: told.said,
    unstable: grown,
    nearest: told.nearest,
    run, anchors, times, observed, explained, differing, final, right,
  };
};
