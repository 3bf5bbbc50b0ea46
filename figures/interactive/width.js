// Predictions that were computed already.
const known = new Map();

// The recorded network of that width and start, linearized around its start.
explorable.linearized = (width, start) => {
  const { range } = dynamics;
  const data = explorable.data.recordings;
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
};

// Losses of all agents in all rounds, and their outputs in the round of the gap.
explorable.predicted = (width, start, step) => {
  const key = [width, start, step].join();
  if (!known.has(key)) known.set(key, explorable.predict(width, start, step));
  return known.get(key);
};

explorable.predict = (width, start, step) => {
  const data = explorable.data.recordings;
  const p = explorable.linearized(width, start);
  const losses = [];
  let outputs = null;
  const rounds = data.round.at(-1);
  dynamics.rollout("dgd", dynamics.runOn(p, data.mixing, data.step_size[step], rounds), (round, x) => {
    losses.push(dynamics.ownLoss(p, x));
    if (round === data.gap_round)
      outputs = dynamics.range(p.agents).map((i) =>
        p.features.map((phi, a) => data.initial[width][start][a] + dynamics.sum(dynamics.range(p.d), (k) => phi[k] * x[i * p.d + k])),
      );
  });
  return { losses, outputs };
};

// |predicted - observed| / |observed - start| in that round, the largest over agents, as `compare` has it.
explorable.gapOf = (outputs, width, start, step) => {
  const data = explorable.data.recordings;
  const norm = (values) => Math.hypot(...values);
  return Math.max(
    ...outputs.map((mine, i) => {
      const seen = data.outputs[width][start][step][i];
      const initial = data.initial[width][start];
      return norm(mine.map((f, a) => f - seen[a])) / norm(seen.map((f, a) => f - initial[a]));
    }),
  );
};

explorable.line = (x, y) => {
  const { sum } = dynamics;
  const [meanX, meanY] = [x, y].map((values) => sum(values, (v) => v) / values.length);
  const slope =
    sum(dynamics.range(x.length), (k) => (x[k] - meanX) * (y[k] - meanY)) / sum(x, (v) => (v - meanX) ** 2);
  return { slope, intercept: meanY - slope * meanX };
};

explorable.compute = ({ width, step, start, until }) => {
  const { range } = dynamics;
  const data = explorable.data.recordings;
  step = Number(step);
  const all = range(data.width.length).map((k) => explorable.predicted(k, start, step));
  const { losses } = all[width];
  const gaps = all.map(({ outputs }, k) => explorable.gapOf(outputs, k, start, step));
  const fit = explorable.line(data.width.map(Math.log), gaps.map(Math.log));
  const recorded = data.train_loss[width][start][step];
  const shown = range(data.round.length).filter((k) => data.round[k] <= until);
  const times = range(until + 1);
  const agents = data.mixing.length;
  const colours = explorable.agentColours(agents);
  const drifts = data.kernel_drift.map((starts) => starts[start][step].map((share) => 100 * share));
  const bold = explorable.dark() ? "#6cbcf0" : "#0072B2";
  const pale = explorable.dark() ? "#5b6570" : "#b9bec4";
  const marked = shown.flatMap((k, n) => range(agents).filter((i) => (n + i) % 2 === 0).map((i) => [k, i]));
  const gap = gaps[width];
  return {
    sources: {
      lines: {
        x: range(agents).map(() => times), y: range(agents).map((i) => times.map((t) => losses[t][i])), colour: colours,
      },
      marks: {
        x: marked.map(([k]) => data.round[k]), y: marked.map(([k, i]) => recorded[k][i]),
        colour: marked.map(([, i]) => colours[i]),
      },
      gaps: {
        x: data.width, y: gaps.map((g) => 100 * g), colour: gaps.map((_, k) => (k === width ? bold : pale)),
        size: gaps.map((_, k) => (k === width ? 13 : 9)),
      },
      slope: { x: data.width, y: data.width.map((w) => 100 * Math.exp(fit.intercept) * w ** fit.slope) },
      drifts: {
        x: drifts.map(() => data.drift_round), y: drifts,
        colour: drifts.map((_, k) => (k === width ? bold : pale)), thick: drifts.map((_, k) => (k === width ? 3 : 1.5)),
      },
    },
    ranges: {
      loss_x: { start: 0, end: until },
      loss_y: explorable.decades([...times.flatMap((t) => losses[t]), ...shown.flatMap((k) => recorded[k])], 1e-7),
      gap_y: explorable.decades(gaps.map((g) => 100 * g)),
      drift_y: { start: 0, end: 1.15 * Math.max(...drifts.flat()) },
    },
    readouts: {
      step_size: data.step_size[step],
      predicted: losses[data.round[shown.at(-1)]][0],
      observed: recorded[shown.at(-1)][0],
      gap: 100 * gap,
      drift: drifts[width].at(-1),
      slope: fit.slope,
    },
    said: `At width ${data.width[width]}, prediction and training differ by ${(100 * gap).toPrecision(2)} % of the distance travelled after ${data.gap_round} rounds; the kernel drifts by ${drifts[width].at(-1).toPrecision(2)} %.`,
    unstable: false,
    losses,
    gaps,
  };
};
