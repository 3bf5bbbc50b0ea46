let recorded = null;

explorable.compute = ({ width, step, start, until }) => {
  const { range } = dynamics;
  recorded ??= recordings(explorable.data.recordings);
  const { data } = recorded;
  step = Number(step);
  const { losses } = recorded.predicted(width, start, step);
  const gaps = range(data.width.length).map((k) => recorded.gap(k, start, step));
  const fit = recorded.line(data.width.map(Math.log), gaps.map(Math.log));
  const observed = data.train_loss[width][start][step];
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
        x: marked.map(([k]) => data.round[k]), y: marked.map(([k, i]) => observed[k][i]),
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
      loss_y: explorable.decades([...times.flatMap((t) => losses[t]), ...shown.flatMap((k) => observed[k])], 1e-7),
      gap_y: explorable.decades(gaps.map((g) => 100 * g)),
      drift_y: { start: 0, end: 1.15 * Math.max(...drifts.flat()) },
    },
    readouts: {
      step_size: data.step_size[step],
      predicted: losses[data.round[shown.at(-1)]][0],
      observed: observed[shown.at(-1)][0],
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
