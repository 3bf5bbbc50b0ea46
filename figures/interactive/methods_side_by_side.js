explorable.compute = ({ agents, topology, step, heterogeneity, rounds, ...shownMethods }) => {
  const { range } = dynamics;
  const p = circle.problem(agents, heterogeneity);
  const W = dynamics.metropolis(dynamics.GRAPHS[topology](agents), agents);
  const best = dynamics.optimum(p);
  const scale = Math.hypot(...best);
  const every = Math.max(1, Math.round(rounds / 100));
  const times = range(rounds + 1).filter((t) => t % every === 0 || t === rounds);

  const measured = (name) => {
    const seen = { far: [], apart: [] };
    dynamics.rollout(name, dynamics.runOn(p, W, step, rounds), (round, x) => {
      if (round % every && round !== rounds) return;
      seen.far.push(dynamics.distance(x, best) / scale);
      seen.apart.push(dynamics.distance(x, dynamics.average(x, p.d)) / scale);
    });
    return seen;
  };

  const names = Object.keys(dynamics.METHODS).filter((name) => shownMethods[name]);
  const runs = Object.fromEntries(names.map((name) => [name, measured(name)]));
  const grown = names.filter((name) => !(runs[name].far.at(-1) < 3));
  const colour = names.map((name) => explorable.data.methods[name]);
  const curves = (what) => ({
    x: names.map(() => times), y: names.map((name) => runs[name][what].map(explorable.shown)), colour,
  });
  const label = (name) => explorable.data.method_names[name];
  return {
    sources: { curves: curves("far"), spread: curves("apart") },
    ranges: {
      distance_x: { start: 0, end: rounds },
      distance_y: explorable.decades(names.flatMap((name) => runs[name].far), 1e-15),
      apart_x: { start: 0, end: rounds },
      apart_y: explorable.decades(names.flatMap((name) => runs[name].apart), 1e-15),
    },
    readouts: Object.fromEntries(
      Object.keys(dynamics.METHODS).map((name) => [name, runs[name] ? runs[name].far.at(-1) : "–"]),
    ),
    said: grown.length
      ? `Unstable: ${grown.map(label).join(", ")} grow${grown.length > 1 ? "" : "s"} at this step size.`
      : `Stable: distances to the optimum after ${rounds} rounds are below.`,
    unstable: grown.length > 0,
    runs,
    times,
  };
};
