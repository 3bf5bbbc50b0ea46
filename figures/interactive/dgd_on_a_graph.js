explorable.places = (agents) =>
  dynamics.range(agents).map((i) => {
    const turn = (2 * Math.PI * i) / agents + Math.PI / 2;
    return [Math.cos(turn), Math.sin(turn)];
  });

explorable.compute = ({ agents, topology, step, heterogeneity, rounds }) => {
  const { range, sum } = dynamics;
  const p = circle.problem(agents, heterogeneity);
  const links = dynamics.GRAPHS[topology](agents);
  const W = dynamics.metropolis(links, agents);
  const limit = dynamics.limitOfDGD(p, W);
  const spectrum = dynamics.eigenvalues(dynamics.roundOfDGD(p, W, step));
  const modes = dynamics.eigenvalues(W).map(Math.abs).sort((a, b) => b - a);
  const best = dynamics.optimum(p);
  const everybody = Float64Array.from(range(agents * p.d).map((k) => best[k % p.d]));
  const least = dynamics.commonLoss(p, everybody)[0];

  const every = Math.max(1, Math.round(rounds / 100));
  const seen = [];
  const times = [];
  dynamics.rollout("dgd", dynamics.runOn(p, W, step, rounds), (round, x) => {
    if (round % every && round !== rounds) return;
    times.push(round);
    seen.push(dynamics.commonLoss(p, x));
  });
  const final = seen.at(-1);
  const colours = explorable.agentColours(agents);
  const places = explorable.places(agents);
  const excess = final.map((loss) => Math.sqrt(Math.max(explorable.shown(loss) - least, 0)));
  const largest = Math.max(...excess, 1e-12);
  const unstable = spectrum[0] < -1;
  return {
    sources: {
      curves: {
        x: range(agents).map(() => times),
        y: range(agents).map((i) => seen.map((losses) => explorable.shown(losses[i]))),
        colour: colours,
      },
      least: { x: [0, rounds], y: [least, least] },
      links: {
        x: links.map(([i, j]) => [places[i][0], places[j][0]]),
        y: links.map(([i, j]) => [places[i][1], places[j][1]]),
      },
      nodes: {
        x: places.map((place) => place[0]), y: places.map((place) => place[1]),
        size: excess.map((e) => 20 + 18 * (e / largest)),
        colour: colours, label: range(agents).map(String), ink: colours.map(explorable.inkOn),
      },
      values: {
        x: range(spectrum.length), y: spectrum.map((value) => Math.max(value, -1e6)),
        colour: spectrum.map((value) => (value < -1 ? "#D55E00" : explorable.dark() ? "#6cbcf0" : "#0072B2")),
      },
    },
    ranges: {
      ...explorable.square("graph", 1.3),
      errors_x: { start: 0, end: rounds },
      errors_y: { start: least / 1.3, end: 1.3 * Math.max(...seen.flat().map(explorable.shown)) },
      spectrum_x: { start: -1, end: spectrum.length },
      spectrum_y: { start: Math.min(-1.25, spectrum[0] * 1.1), end: 1.25 },
    },
    readouts: { limit, gap: 1 - modes[1], smallest: spectrum[0], mean: sum(final, (l) => l) / agents, optimum: least },
    said: unstable
      ? `Unstable: the step size ${step.toPrecision(3)} is above the limit ${limit.toPrecision(3)}, errors grow from round to round.`
      : `Stable: the step size ${step.toPrecision(3)} is ${Math.round((100 * step) / limit)} % of the limit.`,
    unstable,
    final,
    seen,
    times,
  };
};
