// The eight pictures: each is drawn from a few values that the reader drags, by the mathematics of dynamics.js.
const essay = (() => {
  const figures = {};

  const minus = (text) => text.replace(/-(?=\d)/g, "−");

  // --- a picture and its axes ------------------------------------------------------------------

  // Values to pixels and back; on a logarithmic axis what is not positive lies far below.
  function scale({ low, high, log }, from, to) {
    const f = log ? (v) => Math.log(Math.max(v, 1e-300)) : (v) => v;
    const [a, b] = [f(low), f(high)];
    return {
      to: (v) => Math.max(-1e4, Math.min(1e4, from + ((f(v) - a) / (b - a)) * (to - from))),
      of: (pixel) => {
        const u = a + ((pixel - from) / (to - from)) * (b - a);
        return log ? Math.exp(u) : u;
      },
    };
  }

  // What a picture is drawn with: its size in pixels, and shapes by layer, later layers above earlier.
  function board(figure, height) {
    const { svg, name } = figure;
    const wide = Math.max(svg.clientWidth || 640, 280);
    drawing.set(svg, { viewBox: `0 0 ${wide} ${height}` });
    const layer = (of) => drawing.group(svg, of);
    const shapes = (of, tag, items, attributes) => drawing.each(layer(of), tag, items, attributes);

    function axes(of, { left, right, top, bottom, x, y }) {
      const [X, Y] = [scale(x, left, right), scale(y, bottom, top)];
      shapes(`${of}-clip`, "clipPath", [0], () => ({ id: `clip-${name}-${of}` }));
      const box = { x: left, y: top - 6, width: right - left, height: bottom - top + 12 };
      drawing.each(layer(`${of}-clip`).firstChild, "rect", [box], (each) => each);
      const across = y.ticks.map((v) => ({ x1: left, x2: right, y1: Y.to(v), y2: Y.to(v) }));
      const along = x.ticks.map((v) => ({ x1: X.to(v), x2: X.to(v), y1: bottom, y2: bottom + 4 }));
      shapes(`${of}-grid`, "line", [...across, ...along], (line) => ({ ...line, stroke: "var(--line)" }));
      shapes(`${of}-ticks`, "text", [
        ...y.ticks.map((v) => ({ x: left - 6, y: Y.to(v), dy: ".35em", "text-anchor": "end", text: minus((y.said || String)(v)) })),
        ...x.ticks.map((v) => ({ x: X.to(v), y: bottom + 18, "text-anchor": "middle", text: minus((x.said || String)(v)) })),
        { x: left - 30, y: top - 12, text: y.label },
        { x: right, y: bottom + 35, "text-anchor": "end", text: x.label },
      ], (text) => text);
      return { X, Y, clip: `url(#clip-${name}-${of})` };
    }

    const lines = (of, { X, Y, clip }, curves, attributes) =>
      shapes(of, "path", curves, ([xs, ys], k) => ({
        d: drawing.path(xs.map(X.to), ys.map(Y.to)), fill: "none", "clip-path": clip, "stroke-width": 2, ...attributes(k),
      }));

    const dots = (of, { X, Y, clip }, places, attributes) =>
      shapes(of, "circle", places, ([x, y], k) => ({ cx: X.to(x), cy: Y.to(y), r: 4, "clip-path": clip, ...attributes(k) }));

    // A grip that is dragged, or moved by keys: `read` says which value a place has.
    function handle(key, { label, low, high, step, at: [x, y], read, text }) {
      figure.grips[key] = { low, high, step, read };
      drawing.set(layer(`handle-${key}`), {
        role: "slider", tabindex: 0, "data-grip": key, "aria-label": label, "aria-valuemin": low, "aria-valuemax": high,
        "aria-valuenow": figure.values[key], "aria-valuetext": text,
      });
      const circles = [[22, "hit"], [13, "ring"], [8, "grip"]];
      shapes(`handle-${key}`, "circle", circles, ([r, part]) => ({
        cx: x, cy: y, r, class: part, ...(part === "grip" ? {} : { fill: part === "hit" ? "transparent" : "none" }),
      }));
    }

    // A track with a grip, for a value that is no place in the picture.
    function track(key, { left, right, y, low, high, step, label, text, ticks }) {
      const X = scale({ low, high }, left, right);
      shapes(`track-${key}`, "line", [0], () => ({ x1: left, x2: right, y1: y, y2: y, stroke: "var(--line)", "stroke-width": 4, "stroke-linecap": "round" }));
      shapes(`track-${key}-ticks`, "text", ticks, ([v, said]) => ({ x: X.to(v), y: y + 28, text: said, "text-anchor": "middle" }));
      handle(key, { label, low, high, step, at: [X.to(figure.values[key]), y], read: ([x]) => X.of(x), text });
      return X;
    }

    return { wide, height, figure, layer, shapes, axes, lines, dots, handle, track };
  }

  // --- what the reader does --------------------------------------------------------------------

  function put(figure, key, value) {
    const { low, high, step } = figure.grips[key];
    figure.values[key] = Math.min(high, Math.max(low, Number((Math.round(value / step) * step).toFixed(6))));
  }

  function move(figure, key, value) {
    put(figure, key, value);
    changed(figure);
  }

  // The address follows when the hand rests: browsers count how often it changes. What is still held is no step yet.
  let resting = 0;
  let held = false;
  let steps = null;

  function rest() {
    address.remember(state());
    if (!held) steps.commit();
  }

  function changed(figure) {
    show(figure);
    address.say("");
    clearTimeout(resting);
    resting = setTimeout(rest, 150);
  }

  const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e6, End: 1e6 };

  function listen(figure) {
    let grip = null;
    drawing.hold(figure.svg, {
      down: (place, target) => {
        grip = target.closest("[data-grip]")?.dataset.grip;
        return (held = Boolean(grip || figure.hand?.down(place, target)));
      },
      move: (place, event) => (grip ? move(figure, grip, figure.grips[grip].read(place)) : figure.hand?.move?.(place, event)),
      up: (moved) => {
        held = false;
        if (!grip) figure.hand?.up(moved);
        steps.commit();
      },
    });
    figure.svg.addEventListener("keydown", (event) => {
      const key = event.target.dataset.grip;
      if (figure.hand?.key(event)) event.preventDefault();
      if (!key || !KEYS[event.key]) return;
      event.preventDefault();
      move(figure, key, figure.values[key] + KEYS[event.key] * figure.grips[key].step);
    });
    figure.root.querySelector(".again").addEventListener("click", () => {
      reset(figure);
      changed(figure);
    });
  }

  // --- the state: every value that is not as it was at first ---------------------------------------

  const reset = (figure) => (figure.values = structuredClone(figure.start));

  // Links that only one of two graphs has.
  const unlike = (one, other) => {
    const both = [...one, ...other].map(String);
    return [...one, ...other].filter((link) => both.filter((each) => each === String(link)).length === 1);
  };

  // A value as the address has it, graphs by what was done to their links; nothing where it is as at first.
  function written(start, now) {
    if (Array.isArray(start)) return address.lists.write(unlike(start, now));
    return now === start || start === null ? "" : String(now);
  }

  function state() {
    const values = all().flatMap(({ name, start, values }) =>
      Object.keys(start).map((key) => [`${name}.${key}`, written(start[key], values[key])]));
    return String(new URLSearchParams(values.filter(([, text]) => text)));
  }

  // Whether a picture has such a value, which it then takes.
  function take([place, text]) {
    const [name, key] = place.split(".");
    const figure = Object.hasOwn(figures, name) && figures[name];
    if (!figure || !Object.hasOwn(figure.start, key) || !text.trim()) return false;
    if (Array.isArray(figure.start[key])) return takeLinks(figure, key, address.lists.read(text));
    const { low, high } = figure.grips[key] ?? {};
    if (!(low <= Number(text) && Number(text) <= high)) return false;
    put(figure, key, Number(text));
    return true;
  }

  function takeLinks({ svg, start, values }, key, links) {
    const agent = (i) => svg.querySelector(`[data-agent="${i}"]`);
    values[key] = links.reduce(dynamics.toggled, start[key]);
    return links.every((link) => link.length === 2 && link[0] < link[1] && link.every(agent));
  }

  // All values as that text has them; where it cannot be read, as they are at first, and says why.
  function restore(text) {
    all().forEach(reset);
    const odd = [...new URLSearchParams(text)].find((given) => !take(given));
    if (odd) all().forEach(reset);
    address.refuse(odd && address.missing(odd), "here are the pictures as they open");
    address.remember(state());
    all().forEach(show);
  }

  // All values as they were, and the picture that is another then in sight.
  function back(text) {
    const before = all().map(({ values }) => JSON.stringify(values));
    restore(text);
    const other = all().find(({ values }, k) => JSON.stringify(values) !== before[k]);
    other?.root.scrollIntoView({ block: "nearest" });
  }

  function show(figure) {
    const { said, ...result } = figure.draw((height) => board(figure, height(figure.svg.clientWidth || 640)), figure.values);
    figure.result = result;
    figure.root.querySelector(".said").textContent = minus(said);
  }

  // `draw(paper, values)` draws on `paper(width => height)` and returns what it says and its numbers.
  function figure(name, start, draw, hand) {
    const root = document.getElementById(name);
    const made = { name, root, svg: root.querySelector("svg"), start, values: structuredClone(start), draw, grips: {} };
    made.hand = hand?.(made, () => changed(made));
    figures[name] = made;
    listen(made);
  }

  const all = () => Object.values(figures);

  function begin() {
    const draw = () => all().forEach(show);
    theme.start(draw);
    addEventListener("resize", draw);
    address.say("");
    draw();
    if (address.asked()) restore(address.asked());
    steps = undoing(state, back);
    address.followed((text) => {
      restore(text);
      steps.commit();
    });
    document.documentElement.dataset.ready = "true";
  }

  return { figure, begin, figures };
})();

const { range, sum } = dynamics;
const percent = (share) => `${Number((100 * share).toPrecision(2))} %`;
const short = (value) => String(Number(value.toPrecision(3)));
const power = (v) => `10${String(Math.round(Math.log10(v))).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;
const tall = () => 330;
const stacked = (wide) => (wide > 560 ? 340 : 640);

// --- one agent, one mistake ------------------------------------------------------------------------

essay.figure("one", { s: 0.3 }, (paper, { s }) => {
  const b = paper(tall);
  const seen = dynamics.oneMode("dgd", s, 1, 20);
  const axes = b.axes("error", {
    left: 44, right: b.wide - 16, top: 34, bottom: 280,
    x: { low: 0, high: 20.3, ticks: [0, 5, 10, 15, 20], label: "round" },
    y: { low: -1.4, high: 1.4, ticks: [-1, 0, 1], label: "error" },
  });
  b.lines("path", axes, [[range(21), seen]], () => ({ stroke: "var(--soft)", "stroke-width": 1.5 }));
  b.dots("seen", axes, seen.map((e, t) => [t, e]), (t) => ({ fill: seen[t] < 0 ? "var(--warn)" : "var(--accent)" }));
  const said = {
    label: "Share of the error that a round takes away", low: 0, high: 2.3, step: 0.01,
    at: [axes.X.to(1), axes.Y.to(1 - s)], read: ([, y]) => 1 - axes.Y.of(y), text: short(s),
  };
  b.handle("s", said);
  return { seen, said: `Share ${short(s)}: ${toldOfShare(s)}.` };
});

function toldOfShare(s) {
  const left = Math.abs(1 - s);
  if (s === 0) return "nothing is corrected, nothing changes";
  if (s === 1) return "done in one round";
  if (s === 2) return "the error changes its sign for ever, and nothing is gained";
  if (s > 2) return `each round makes the error ${short(left)} times as large, with its sign changed`;
  const halved = `what is left halves every ${short(Math.log(0.5) / Math.log(left))} rounds`;
  return `each round leaves ${percent(left)} of the error${s > 1 ? ", with its sign changed" : ""}; ${halved}`;
}

// --- many mistakes ---------------------------------------------------------------------------------

const PATTERNS = range(10).map((k) => 2 ** -k);
const STRIDE = 0.9;

essay.figure("modes", { rounds: 3 }, (paper, { rounds }) => {
  const b = paper(tall);
  const t = Math.round(2 ** rounds);
  const left = PATTERNS.map((value) => dynamics.oneMode("dgd", STRIDE * value, 1, t).at(-1));
  const axes = b.axes("left", {
    left: 44, right: b.wide - 20, top: 34, bottom: 280,
    x: { low: 1 / 900, high: 1.25, log: true, ticks: PATTERNS.filter((_, k) => k % 2 === 0), label: "eigenvalue λ of the pattern",
      said: (v) => (v === 1 ? "1" : `1/${Math.round(1 / v)}`) },
    y: { low: 0, high: 1.02, ticks: [0, 0.5, 1], label: "share left", said: (v) => percent(v) },
  });
  const fine = range(121).map((k) => 2 ** (-9.8 + (9.8 * k) / 120));
  const leftOf = (value) => dynamics.RECURSIONS.dgd(STRIDE * value, 1).a ** t;
  b.lines("front", axes, [[fine, fine.map(leftOf)]], () => ({ stroke: "var(--soft)", "stroke-width": 1.5 }));
  b.shapes("stems", "line", PATTERNS, (v, k) => ({ x1: axes.X.to(v), x2: axes.X.to(v), y1: axes.Y.to(0), y2: axes.Y.to(left[k]), stroke: "var(--accent)", "stroke-width": 3 }));
  b.dots("patterns", axes, PATTERNS.map((v, k) => [v, left[k]]), () => ({ r: 6, fill: "var(--accent)" }));
  const halved = (1 - 0.5 ** (1 / t)) / STRIDE;
  b.handle("rounds", {
    label: "Rounds, by powers of two", low: 0, high: 10, step: 0.02, at: [axes.X.to(halved), axes.Y.to(0.5)],
    read: ([x]) => Math.log2(-1 / Math.log2(1 - Math.min(0.999, STRIDE * axes.X.of(x)))), text: `${t} rounds`,
  });
  const learned = left.filter((e) => e < 0.5).length;
  return { t, left, said: `After ${t} ${t === 1 ? "round" : "rounds"}, ${learned} of 10 patterns are more than half learned.` };
});

// --- a rumour on a graph ---------------------------------------------------------------------------

const AGENTS = 8;
const onCircle = (i, [x, y], radius) => [
  x + radius * Math.sin((2 * Math.PI * i) / AGENTS), y - radius * Math.cos((2 * Math.PI * i) / AGENTS),
];

function gossip(links, rounds) {
  const mix = dynamics.mixer(dynamics.metropolis(links, AGENTS), 1);
  let x = Float64Array.from(range(AGENTS), (i) => +(i === 0));
  const mean = dynamics.average(x, 1);
  return range(rounds + 1).map(() => {
    const apart = dynamics.distance(x, mean);
    x = mix(x);
    return apart;
  });
}

essay.figure("graph", { links: dynamics.GRAPHS.ring(AGENTS), chosen: null }, (paper, { links, chosen }) => {
  const b = paper(stacked);
  const beside = b.wide > 560;
  const centre = [beside ? 0.21 * b.wide : b.wide / 2, 160];
  const places = range(AGENTS).map((i) => onCircle(i, centre, Math.min(112, 0.17 * b.wide + 60)));
  const colours = theme.agents(AGENTS);
  b.shapes("links", "line", links, ([i, j]) => ({
    x1: places[i][0], y1: places[i][1], x2: places[j][0], y2: places[j][1], stroke: "var(--soft)", "stroke-width": 2,
  }));
  b.shapes("drawn", "line", [], () => ({}));
  b.shapes("agents", "circle", places, ([cx, cy], i) => ({
    cx, cy, r: 15, fill: colours[i], role: "button", tabindex: 0, "data-agent": i, class: "ring", "aria-pressed": String(chosen === i),
    stroke: chosen === i ? "var(--ink)" : "var(--card)", "stroke-width": chosen === i ? 4 : 2,
    "aria-label": `Agent ${i}, linked with ${links.filter((l) => l.includes(i)).map(([a, c]) => (a === i ? c : a)).join(", ") || "nobody"}`,
  }));
  b.shapes("numbers", "text", places, ([x, y], i) => ({
    x, y, dy: ".35em", "text-anchor": "middle", text: i, style: `fill: ${theme.inkOn(colours[i])}; pointer-events: none; font-weight: 600`,
  }));
  const apart = gossip(links, 40);
  const slow = Math.max(...dynamics.eigenvalues(dynamics.metropolis(links, AGENTS)).map(Math.abs).sort((a, c) => c - a).slice(1));
  const axes = b.axes("apart", {
    left: beside ? 0.5 * b.wide : 44, right: b.wide - 16, top: beside ? 34 : 350, bottom: beside ? 290 : 590,
    x: { low: 0, high: 40, ticks: [0, 10, 20, 30, 40], label: "round" },
    y: { low: 1e-6, high: 1, log: true, ticks: [1, 1e-2, 1e-4, 1e-6], label: "distance from agreement", said: power },
  });
  b.lines("power", axes, [[range(41), range(41).map((t) => apart[0] * slow ** t)]], () => ({ stroke: "var(--soft)", "stroke-dasharray": "5 4", "stroke-width": 1.5 }));
  b.lines("disagreement", axes, [[range(41), apart]], () => ({ stroke: "var(--accent)", "stroke-width": 2.5 }));
  const parts = dynamics.parts(links, AGENTS);
  const pace = slow < 1e-9 ? "one round, and all agree" : `each round leaves ${percent(slow)} of what agents disagree on (dashed: nothing but that)`;
  return { links, slow, apart, said: parts > 1 ? `The graph is in ${parts} parts, and no rumour crosses from one to another.` : `${links.length} links: ${pace}.` };
}, (figure, show) => {
  let from = null;
  const toggle = (i, j) => {
    figure.values = { links: dynamics.toggled(figure.values.links, [i, j]), chosen: null };
    show();
  };
  const press = (i) => {
    const { chosen } = figure.values;
    if (chosen !== null && chosen !== i) return toggle(chosen, i);
    figure.values.chosen = chosen === i ? null : i;
    return show();
  };
  let under = null;
  return {
    down: (_, target) => {
      from = under = target.dataset.agent ?? null;
      return from !== null;
    },
    move: ([x, y], { clientX, clientY }) => {
      under = document.elementFromPoint(clientX, clientY)?.dataset.agent ?? null;
      const start = figure.svg.querySelector(`[data-agent="${from}"]`);
      const line = { x1: start.getAttribute("cx"), y1: start.getAttribute("cy"), x2: x, y2: y };
      drawing.each(drawing.group(figure.svg, "drawn"), "line", [line], (l) => ({ ...l, stroke: "var(--accent)", "stroke-width": 3, style: "pointer-events: none" }));
    },
    up: (moved) => {
      if (!moved) press(Number(from));
      else if (under !== null && under !== from) toggle(Number(from), Number(under));
      else show();
    },
    key: ({ key, target }) => {
      if (!["Enter", " "].includes(key) || !target.dataset.agent) return false;
      press(Number(target.dataset.agent));
      return true;
    },
  };
});

// --- learning and talking at once ------------------------------------------------------------------

const RING = dynamics.metropolis(dynamics.GRAPHS.ring(AGENTS), AGENTS);
const RING_MODES = dynamics.eigenvalues(RING).reverse();

essay.figure("product", { step: 0.3 }, (paper, { step }) => {
  const b = paper((wide) => Math.min(wide * 0.62, 420) + 120);
  const loud = PATTERNS.slice(0, 9);
  const pairs = RING_MODES.flatMap((w, row) => loud.map((value, column) => ({ w, value, row, column })));
  const left = pairs.map(({ w, value }) => dynamics.RECURSIONS.dgd(step * value, w).a);
  const [cellWide, cellHigh] = [(b.wide - 90) / 9, (b.height - 130) / 8];
  const place = ({ row, column }) => [62 + (column + 0.5) * cellWide, 30 + (row + 0.5) * cellHigh];
  const fills = Math.min(cellWide, cellHigh) / 2;
  b.shapes("cells", "circle", pairs, (pair) => ({ cx: place(pair)[0], cy: place(pair)[1], r: fills, fill: "none", stroke: "var(--line)" }));
  b.shapes("left", "circle", pairs, (pair, k) => ({
    cx: place(pair)[0], cy: place(pair)[1], r: fills * Math.min(Math.abs(left[k]), 1.5),
    fill: Math.abs(left[k]) > 1 + 1e-9 ? "var(--warn)" : "var(--accent)", "fill-opacity": left[k] < 0 ? 0.45 : 0.9,
  }));
  b.shapes("names", "text", [
    ...RING_MODES.map((w, row) => ({ x: 52, y: place({ row, column: 0 })[1], dy: ".35em", "text-anchor": "end", text: w.toFixed(2).replace("-", "−") })),
    ...loud.map((value, column) => ({ x: place({ row: 0, column })[0], y: b.height - 78, "text-anchor": "middle", text: b.wide < 480 && column % 2 ? "" : column ? `1/${2 ** column}` : "1" })),
    { x: 10, y: 18, text: "w of the graph" }, { x: b.wide - 16, y: b.height - 58, "text-anchor": "end", text: "λ of the kernel" },
  ], (text) => text);
  const limit = 1 + RING_MODES.at(-1);
  b.track("step", { left: 40, right: b.wide - 40, y: b.height - 36, low: 0, high: 1.4, step: 0.01, label: "Step size", text: short(step),
    ticks: [[0, "0"], [limit, `limit ${short(limit)}`], [1.4, "1.4"]] });
  const growing = left.filter((e) => Math.abs(e) > 1 + 1e-9).length;
  const told = growing ? `${growing} of 72 errors grow` : "no error grows; pale discs change their sign in every round";
  return { left, limit, said: `Step ${short(step)}: ${told}.` };
});

// --- what different data cost ----------------------------------------------------------------------

const PULLED = (() => {
  const p = circle.problem(AGENTS, 0.8);
  const limit = dynamics.limitOfDGD(p, RING);
  const best = dynamics.optimum(p);
  const steps = range(41).map((k) => 0.999 * limit * 10 ** (-2.2 * (1 - k / 40)));
  return { p, limit, best, steps };
})();

// Where DGD comes to rest: (I - W + eta H) x = eta b.
function atRest(eta) {
  const { p } = PULLED;
  const moved = dynamics.roundOfDGD(p, RING, eta).map((row, i) => row.map((value, j) => +(i === j) - value));
  return dynamics.solve(moved, p.b.flatMap((slope) => [...slope].map((value) => eta * value)));
}

const REST = PULLED.steps.map((eta) => dynamics.distance(atRest(eta), PULLED.best));

essay.figure("bias", { step: -0.6 }, (paper, { step }) => {
  const b = paper(stacked);
  const beside = b.wide > 560;
  const eta = 10 ** step;
  const x = atRest(eta);
  const { best, p, steps } = PULLED;
  const own = range(AGENTS).map((i) => [x[i * p.d + 1], x[i * p.d + 3]]);
  const [middleX, middleY, reach] = [best[1], best[3], 0.24];
  const plane = b.axes("plane", {
    left: 44, right: beside ? 0.42 * b.wide : b.wide - 16, top: 34, bottom: 280,
    x: { low: middleX - reach, high: middleX + reach, ticks: [], label: "first coordinate" },
    y: { low: middleY - reach, high: middleY + reach, ticks: [], label: "second coordinate" },
  });
  b.lines("leash", plane, own.map(([u, v]) => [[middleX, u], [middleY, v]]), () => ({ stroke: "var(--line)", "stroke-width": 1.5 }));
  b.dots("own", plane, own, (i) => ({ r: 7, fill: theme.agents(AGENTS)[i], stroke: "var(--card)" }));
  b.lines("best", plane, [[[middleX - 0.015, middleX + 0.015], [middleY, middleY]], [[middleX, middleX], [middleY - 0.015, middleY + 0.015]]],
    () => ({ stroke: "var(--ink)", "stroke-width": 2.5 }));
  const axes = b.axes("far", {
    left: beside ? 0.55 * b.wide : 54, right: b.wide - 16, top: beside ? 34 : 350, bottom: beside ? 280 : 590,
    x: { low: 0.0028, high: 0.6, log: true, ticks: [0.003, 0.01, 0.03, 0.1, 0.3], label: "step size η" },
    y: { low: 0.001, high: 0.3, log: true, ticks: [0.001, 0.01, 0.1], label: "distance from the best for all" },
  });
  b.lines("rest", axes, [[steps, REST]], () => ({ stroke: "var(--accent)", "stroke-width": 2.5 }));
  const far = dynamics.distance(x, best);
  b.handle("step", {
    label: "Step size, power of ten", low: -2.5, high: -0.34, step: 0.01, at: [axes.X.to(eta), axes.Y.to(far)],
    read: ([pixel]) => Math.log10(axes.X.of(pixel)), text: short(eta),
  });
  return { eta, x: [...x], far, said: `With step ${short(eta)}, agents rest at a distance of ${short(far)} from the best.` };
});

// --- how long a stride -----------------------------------------------------------------------------

// Distance from the best, for every step and round.
const approach = (() => {
  let found = null;
  const { p, best, steps } = PULLED;
  const follow = (eta) => {
    const far = [];
    dynamics.rollout("dgd", dynamics.runOn(p, RING, eta, 1000), (_, x) => far.push(dynamics.distance(x, best)));
    return far;
  };
  return () => (found ??= steps.map(follow));
})();

essay.figure("step", { rounds: 2.5 }, (paper, { rounds }) => {
  const b = paper(() => 410);
  const { steps } = PULLED;
  const t = Math.round(10 ** rounds);
  const far = approach().map((seen) => seen[t]);
  const at = far.indexOf(Math.min(...far));
  const axes = b.axes("far", {
    left: 54, right: b.wide - 16, top: 34, bottom: 290,
    x: { low: 0.0028, high: 0.6, log: true, ticks: [0.003, 0.01, 0.03, 0.1, 0.3], label: "step size η" },
    y: { low: 0.004, high: 2, log: true, ticks: [0.01, 0.1, 1], label: "distance from the best for all" },
  });
  b.lines("rest", axes, [[steps, REST]], () => ({ stroke: "var(--soft)", "stroke-dasharray": "5 4", "stroke-width": 1.5 }));
  b.lines("far", axes, [[steps, far]], () => ({ stroke: "var(--accent)", "stroke-width": 2.5 }));
  b.dots("least", axes, [[steps[at], far[at]]], () => ({ r: 7, fill: "var(--warn)" }));
  b.shapes("least-name", "text", [0], () => ({ x: axes.X.to(steps[at]), y: axes.Y.to(far[at]) - 14, "text-anchor": "middle", class: "note", text: `best` }));
  b.track("rounds", { left: 54, right: b.wide - 30, y: 364, low: 1, high: 3, step: 0.01, label: "Rounds, power of ten", text: `${t} rounds`,
    ticks: [[1, "10"], [2, "100"], [3, "1000"]] });
  return { t, far, best: steps[at], said: `In ${t} rounds a step of ${short(steps[at])} comes nearest, to ${short(far[at])} (dashed: after any number of rounds).` };
});

// --- a real network, and where prediction ends -----------------------------------------------------

const recorded = recordings(RECORDINGS);

essay.figure("real", { width: 1 }, (paper, { width }) => {
  const b = paper(() => 410);
  const { data } = recorded;
  const { losses } = recorded.predicted(width, 0, 1);
  const observed = data.train_loss[width][0][1];
  const colours = theme.agents(4);
  const axes = b.axes("loss", {
    left: 44, right: b.wide - 16, top: 34, bottom: 290,
    x: { low: 0, high: 200, ticks: [0, 50, 100, 150, 200], label: "round" },
    y: { low: 3e-6, high: 3, log: true, ticks: [1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5], label: "loss of every agent on its own digits", said: power },
  });
  b.lines("predicted", axes, range(4).map((i) => [range(201), losses.map((all) => all[i])]), (i) => ({ stroke: colours[i] }));
  const marks = data.round.flatMap((round, k) => range(4).filter((i) => (k + i) % 2 === 0).map((i) => [round, observed[k][i], i]));
  b.dots("observed", axes, marks, (k) => ({ r: 3.6, fill: "var(--card)", stroke: colours[marks[k][2]], "stroke-width": 1.6 }));
  b.track("width", { left: 54, right: b.wide - 40, y: 364, low: 0, high: 6, step: 1, label: "Width of the network", text: `${data.width[width]} units`,
    ticks: data.width.map((units, k) => [k, String(units)]) });
  const gap = recorded.gap(width, 0, 1);
  return { gap, losses, said: `${data.width[width]} units: after ${data.gap_round} rounds, outputs are off the prediction by ${percent(gap)} of the way they have gone.` };
});

essay.figure("end", { tolerated: -2 }, (paper, { tolerated }) => {
  const b = paper(tall);
  const { data } = recorded;
  const runs = [0, 1].map((step) => data.width.flatMap((units, k) => range(3).map((start) => [units, recorded.gap(k, start, step)])));
  const fits = runs.map((run) => recorded.line(run.map(([units]) => Math.log(units)), run.map(([, gap]) => Math.log(gap))));
  const bound = 10 ** tolerated;
  const needed = fits.map(({ slope, intercept }) => Math.exp((Math.log(bound) - intercept) / slope));
  const axes = b.axes("gap", {
    left: 54, right: b.wide - 16, top: 34, bottom: 280,
    x: { low: 50, high: 2e5, log: true, ticks: [100, 1000, 1e4, 1e5], label: "width", said: (v) => v.toLocaleString("en").replace(",", " ") },
    y: { low: 5e-4, high: 0.4, log: true, ticks: [0.001, 0.01, 0.1], label: "gap, share of the way", said: percent },
  });
  const colours = ["var(--accent)", "var(--warn)"];
  b.lines("fits", axes, fits.map(({ slope, intercept }) => [[50, 2e5], [50, 2e5].map((units) => Math.exp(intercept + slope * Math.log(units)))]),
    (step) => ({ stroke: colours[step], "stroke-dasharray": "5 4", "stroke-width": 1.5 }));
  b.dots("runs", axes, runs.flat(), (k) => ({ r: 4.5, fill: colours[Math.floor(k / runs[0].length)] }));
  b.lines("bound", axes, [[[50, 2e5], [bound, bound]]], () => ({ stroke: "var(--ink)", "stroke-width": 1.5 }));
  b.shapes("steps", "text", ["a tenth of the largest stable step", "half of it"], (text, step) => ({
    x: b.wide - 22, y: 52 + 18 * step, class: "note", "text-anchor": "end", text: `● ${text}`, style: `fill: ${colours[step]}`,
  }));
  b.handle("tolerated", {
    label: "Gap that is tolerated, power of ten", low: -3.2, high: -1, step: 0.01, at: [axes.X.to(9e4), axes.Y.to(bound)],
    read: ([, y]) => Math.log10(axes.Y.of(y)), text: percent(bound),
  });
  const units = (n) => (n < 50 ? "fewer than 50" : Math.round(Number(n.toPrecision(2))).toLocaleString("en").replace(/,/g, " "));
  const doubled = fits.map(({ slope }) => short(2 ** (-1 / slope)));
  return { needed, slopes: fits.map(({ slope }) => slope), bound,
    said: `A gap of ${percent(bound)} takes about ${units(needed[0])} units with a tenth of the largest stable step, ${units(needed[1])} with half of it; for half the gap, ${doubled[0]} and ${doubled[1]} times as many.` };
});

essay.begin();
