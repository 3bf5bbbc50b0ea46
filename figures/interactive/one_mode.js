// The larger modulus over the plane of s and w, written into the picture that is there.
explorable.chart = (recursion, image) => {
  const [rows, columns] = image.shape;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const [s, w] = [(3 * (c + 0.5)) / columns, -1 + (2 * (r + 0.5)) / rows];
      image[r * columns + c] = Math.min(dynamics.radius(recursion(s, w)), 1.999);
    }
};

explorable.compute = ({ method, s, w, rounds }) => {
  const recursion = dynamics.RECURSIONS[method](s, w);
  const roots = dynamics.roots(recursion);
  const radius = dynamics.radius(recursion);
  const errors = dynamics.oneMode(method, s, w, rounds);
  const unstable = radius > 1 + 1e-9;
  const [blue, orange] = explorable.dark() ? ["#6cbcf0", "#ff9d5c"] : ["#0072B2", "#D55E00"];
  const size = errors.map((e) => explorable.shown(Math.abs(e)));
  const times = dynamics.range(rounds + 1);
  const reach = Math.max(1.45, radius * 1.15);
  const complex = Math.abs(roots[0][1]) > 1e-12;
  const sources = {
    roots: { x: roots.map((z) => z[0]), y: roots.map((z) => z[1]), colour: roots.map((z) => (Math.hypot(...z) > 1 + 1e-9 ? orange : blue)) },
    here: { x: [s], y: [w] },
    track: { x: times, y: size },
    signs: { x: times, y: size, colour: errors.map((e) => (e < 0 ? orange : blue)) },
  };
  const picture = explorable.models.picture;
  if (explorable.charted !== method) {
    explorable.chart(dynamics.RECURSIONS[method], picture.data.image[0]);
    picture.change.emit();
    explorable.charted = method;
  }
  return {
    sources,
    ranges: {
      ...explorable.square("plane", reach),
      error_x: { start: -0.5, end: rounds + 0.5 }, error_y: explorable.decades(errors.map(Math.abs)),
    },
    readouts: {
      a: recursion.a, b: recursion.b, radius, final: errors.at(-1),
      halving: radius < 1 && radius > 0 ? Math.log(0.5) / Math.log(radius) : "–",
    },
    said: unstable
      ? `Unstable: a root has modulus ${radius.toPrecision(3)}, the error grows from round to round.`
      : `Stable: the larger modulus is ${radius.toPrecision(3)}${complex ? ", and the roots are complex: the error oscillates" : ""}.`,
    unstable,
    errors,
    roots,
  };
};
