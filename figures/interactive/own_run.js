// A run of one's own, in few coordinates: f(x_a) = initial_a + phi_a . x_i, for each output by itself.
const own = (() => {
  const { features, targets, owner, agents, deal } = explorable.data;
  const d = features[0].length;
  const outputs = targets[0].length;
  const train = owner.length;

  // Whose the points are: those with a number below `stay` keep their owner, the others are dealt anew.
  function owners(stay) {
    const moved = dynamics.range(train).filter((a) => deal.number[a] >= stay);
    const to = [...moved].sort((a, b) => deal.order[a] - deal.order[b]);
    const dealt = [...owner];
    moved.forEach((a, k) => (dealt[a] = owner[to[k]]));
    return dealt;
  }

  // H, b and c of 1/2 x'Hx - b'x + c, the mean over the rows of half the squared errors; b by output.
  function quadratic(rows) {
    const H = new Float64Array(d * d);
    const b = new Float64Array(outputs * d);
    let c = 0;
    for (const a of rows)
      for (let k = 0; k < d; k++) {
        const phi = features[a][k] / rows.length;
        for (let l = 0; l < d; l++) H[k * d + l] += phi * features[a][l];
        for (let o = 0; o < outputs; o++) b[o * d + k] += phi * targets[a][o];
      }
    for (const a of rows) for (const y of targets[a]) c += (y * y) / (2 * rows.length);
    return { H, b, c };
  }

  // The common objective of the agents' quadratics.
  function common(all) {
    const mean = { H: new Float64Array(d * d), b: new Float64Array(outputs * d), c: 0 };
    for (const { H, b, c } of all) {
      H.forEach((value, k) => (mean.H[k] += value / all.length));
      b.forEach((value, k) => (mean.b[k] += value / all.length));
      mean.c += c / all.length;
    }
    return mean;
  }

  // H x - b for one agent, whose parameters begin at `first`, output by output.
  function slope({ H, b }, x, first, g) {
    for (let o = 0, at = first; o < outputs; o++, at += d)
      for (let k = 0, h = 0; k < d; k++) {
        let sum = -b[o * d + k];
        for (let l = 0; l < d; l++, h++) sum += H[h] * x[at + l];
        g[at + k] = sum;
      }
  }

  function gradient(all) {
    return (x) => {
      const g = new Float64Array(x.length);
      all.forEach((each, i) => slope(each, x, i * outputs * d, g));
      return g;
    };
  }

  // 1/2 x'Hx - b'x + c = 1/2 (x'(Hx - b) - b'x) + c
  function losses(quadratics, x) {
    const g = new Float64Array(x.length);
    return dynamics.range(agents).map((i) => {
      const each = quadratics[i % quadratics.length];
      const first = i * outputs * d;
      slope(each, x, first, g);
      let twice = 0;
      for (let k = 0; k < outputs * d; k++) twice += x[first + k] * (g[first + k] - each.b[k]);
      return twice / 2 + each.c;
    });
  }

  // The largest stable step size of DGD, W symmetric: where (I + W) x I - eta H loses its sign.
  function limit(all, W) {
    const shifted = W.map((row, i) => row.map((w, j) => w + (i === j ? 1 : 0)));
    const inverse = dynamics.range(agents).map((i) => dynamics.solve(shifted, dynamics.range(agents).map((j) => +(i === j))));
    let x = Float64Array.from(dynamics.range(agents * d), (k) => Math.cos(1 + k));
    let largest = 0;
    for (let step = 0; step < 60; step++) {
      const g = new Float64Array(agents * d);
      for (let i = 0; i < agents; i++)
        for (let k = 0, h = 0; k < d; k++)
          for (let l = 0; l < d; l++, h++) g[i * d + k] += all[i].H[h] * x[i * d + l];
      const next = dynamics.mixer(inverse, d)(g);
      const size = Math.sqrt(next.reduce((sum, value) => sum + value * value, 0));
      largest = size;
      x = next.map((value) => value / size);
    }
    return 1 / largest;
  }

  const test = train < features.length ? quadratic(dynamics.range(features.length - train).map((a) => a + train)) : null;

  return { owners, quadratic, common, gradient, losses, limit, test, d, outputs };
})();

// Quadratics of all agents are kept until points are dealt anew.
own.dealt = (() => {
  let kept = null;
  return (stay) => {
    if (kept?.stay === stay) return kept;
    const owner = own.owners(stay);
    const rows = dynamics.range(explorable.data.agents).map((i) => dynamics.range(owner.length).filter((a) => owner[a] === i));
    const all = rows.map(own.quadratic);
    kept = { stay, all, common: own.common(all) };
    return kept;
  };
})();

own.weights = (topology) => {
  const { W, agents } = explorable.data;
  return topology === "given" ? W : dynamics.metropolis(dynamics.GRAPHS[topology](agents), agents);
};

explorable.compute = ({ step, topology, method, stay, what, rounds }) => {
  const { range } = dynamics;
  const { agents, observed, given } = explorable.data;
  const W = own.weights(topology);
  const { all, common } = own.dealt(stay);
  const measured = { global: [common], train: all, test: [own.test] }[what];
  const every = Math.max(1, Math.round(rounds / 40));
  const [times, seen] = [[], []];
  const start = new Float64Array(agents * own.outputs * own.d);
  const run = { grad: own.gradient(all), mix: dynamics.mixer(W, own.outputs * own.d), eta: step, start, rounds };
  dynamics.rollout(method, run, (round, x) => {
    if (round % every && round !== rounds) return;
    times.push(round);
    seen.push(own.losses(measured, x));
  });
  const symmetric = W.every((row, i) => row.every((w, j) => Math.abs(w - W[j][i]) < 1e-9));
  const limit = method === "dgd" && symmetric ? own.limit(all, W) : null;
  const final = seen.at(-1);
  const mean = (losses) => dynamics.sum(losses, (loss) => loss) / agents;
  const grown = !(mean(final) < 10 * mean(seen[0])) || (limit !== null && step > limit);
  const colours = explorable.agentColours(agents);
  const marks = observed?.[what] ? observed.rounds.flatMap((t, k) => (t <= rounds ? observed[what][k].map((y, i) => [t, y, colours[i]]) : [])) : [];
  const asGiven = given.topology === topology && given.method === method && stay === 1 && Math.abs(step / given.step - 1) < 1e-3;
  const shown = [...seen.flat().map(explorable.shown), ...marks.map(([, y]) => y)];
  const share = limit === null ? "" : `, ${Math.round((100 * step) / limit)} % of the limit`;
  return {
    sources: {
      curves: {
        x: range(agents).map(() => times), y: range(agents).map((i) => seen.map((losses) => explorable.shown(losses[i]))),
        colour: colours,
      },
      marks: { x: marks.map((m) => m[0]), y: marks.map((m) => m[1]), colour: marks.map((m) => m[2]) },
      last: { x: range(agents), y: final.map(explorable.shown), colour: colours },
    },
    ranges: {
      losses_x: { start: 0, end: rounds }, losses_y: explorable.decades(shown, 1e-9),
      ends_x: { start: -0.6, end: agents - 0.4 }, ends_y: explorable.decades(final.map(explorable.shown), 1e-9),
    },
    readouts: { limit: limit ?? "–", mean: mean(final), worst: Math.max(...final), best: Math.min(...final) },
    said: grown
      ? `Unstable: the step size ${step.toPrecision(3)}${share}: errors grow.`
      : `Stable: the step size ${step.toPrecision(3)}${share}; mean loss ${mean(final).toPrecision(3)} after ${rounds} rounds.${asGiven ? " The run as it was given." : ""}`,
    unstable: grown,
    times, seen, W, limit, final,
  };
};
