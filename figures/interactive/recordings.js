// Recorded training of real networks (widths.nc, as `data`), and what is predicted of it from the start alone.
const recordings = (data) => {
  const { range, sum } = dynamics;
  const known = new Map();

  // The network of that width and start, linearized around its start.
  function problem(width, start) {
    const outputs = data.targets.length / data.owner.length;
    const agents = data.mixing.length;
    return dynamics.problem({
      features: dynamics.cholesky(data.kernel[width][start]),
      targets: data.targets,
      initial: data.initial[width][start],
      owner: data.targets.map((_, row) => data.owner[Math.floor(row / outputs)]),
      agents,
      points: range(agents).map((i) => data.owner.filter((o) => o === i).length),
    });
  }

  // Losses of all agents in all rounds, and their outputs in the round of the gap.
  function predicted(...run) {
    const key = run.join();
    if (!known.has(key)) known.set(key, predict(...run));
    return known.get(key);
  }

  function predict(width, start, step) {
    const p = problem(width, start);
    const initial = data.initial[width][start];
    const losses = [];
    let outputs = null;
    dynamics.rollout("dgd", dynamics.runOn(p, data.mixing, data.step_size[step], data.round.at(-1)), (round, x) => {
      losses.push(dynamics.ownLoss(p, x));
      if (round === data.gap_round)
        outputs = range(p.agents).map((i) =>
          p.features.map((phi, a) => initial[a] + sum(range(p.d), (k) => phi[k] * x[i * p.d + k])),
        );
    });
    return { losses, outputs };
  }

  // |predicted - observed| / |observed - start| in that round, the largest over agents, as `compare` has it.
  function gap(width, start, step) {
    const norm = (values) => Math.hypot(...values);
    const initial = data.initial[width][start];
    const gaps = predicted(width, start, step).outputs.map((mine, i) => {
      const seen = data.outputs[width][start][step][i];
      return norm(mine.map((f, a) => f - seen[a])) / norm(seen.map((f, a) => f - initial[a]));
    });
    return Math.max(...gaps);
  }

  // The fitted line through points.
  function line(x, y) {
    const [meanX, meanY] = [x, y].map((values) => sum(values, (v) => v) / values.length);
    const slope =
      sum(range(x.length), (k) => (x[k] - meanX) * (y[k] - meanY)) / sum(x, (v) => (v - meanX) ** 2);
    return { slope, intercept: meanY - slope * meanX };
  }

  return { data, predicted, gap, line };
};
