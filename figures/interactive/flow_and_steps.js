explorable.compute = ({ step, rounds, decay, w }) => {
  const { range, sum } = dynamics;
  const modes = range(explorable.data.modes).map((k) => k + 1);
  const scaled = modes.map((k) => step * k ** -decay);
  const oneStep = (s) => w - s;
  const oneFlow = (s) => Math.exp(-(1 - w + s));
  const stepped = scaled.map((s) => oneStep(s) ** rounds);
  const flowed = scaled.map((s) => oneFlow(s) ** rounds);
  const times = range(rounds + 1);
  const losses = (factor) => times.map((t) => 0.5 * sum(scaled, (s) => factor(s) ** (2 * t)));
  const [lossSteps, lossFlow] = [losses(oneStep), losses(oneFlow)];
  const grid = range(121).map((i) => i / 40);
  const size = (values) => values.map((value) => explorable.shown(Math.abs(value)));
  const unstable = Math.max(...scaled.map((s) => Math.abs(oneStep(s)))) > 1;
  const visible = [...stepped, ...flowed].map(Math.abs);
  return {
    sources: {
      steps: { x: grid, y: grid.map(oneStep) },
      flow: { x: grid, y: grid.map(oneFlow) },
      dots: { x: scaled, y: scaled.map(oneStep) },
      gems: { x: scaled, y: scaled.map(oneFlow) },
      left: { x: modes, y: size(stepped) },
      smooth: { x: modes, y: size(flowed) },
      stepped: { x: times, y: size(lossSteps) },
      flowed: { x: times, y: size(lossFlow) },
    },
    ranges: {
      factor_y: { start: Math.min(-1.25, w - 3.1), end: 1.2 },
      modes_y: explorable.decades(visible, 1e-18),
      loss_x: { start: 0, end: rounds },
      loss_y: explorable.decades([...lossSteps, ...lossFlow]),
    },
    readouts: {
      steps: stepped[0], flow: flowed[0], loss_steps: lossSteps.at(-1), loss_flow: lossFlow.at(-1), limit: 1 + w,
    },
    said: unstable
      ? `Unstable: one round multiplies mode 1 by ${oneStep(step).toFixed(2)}, so it grows and changes sign; the flow notices nothing.`
      : `Stable: one round leaves ${oneStep(step).toFixed(2)} of mode 1, the flow ${oneFlow(step).toFixed(2)}.`,
    unstable,
  };
};
