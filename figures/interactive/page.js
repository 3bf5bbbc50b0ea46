// What every page shares: controls, colours, exercises. A page gives explorable.compute(settings),
// which returns { sources, ranges, readouts, said, unstable }.
const explorable = (() => {
  const root = document.documentElement;
  const timings = [];
  let models = null;
  let busy = false;
  let again = false;
  let result = null;

  // --- controls ------------------------------------------------------------------------------

  const inputs = () => [...document.querySelectorAll("[data-control]")];

  function valueOf(input) {
    if (input.type === "checkbox") return input.checked;
    if (input.tagName === "SELECT" || input.type === "hidden") return input.value;
    return input.dataset.scale === "log" ? 10 ** Number(input.value) : Number(input.value);
  }

  const settings = () => Object.fromEntries(inputs().map((input) => [input.name, valueOf(input)]));

  const plain = (value) => String(Number(value.toPrecision(3)));

  function show(input) {
    const output = document.querySelector(`output[for="${input.id}"]`);
    if (!output) return;
    const choices = input.dataset.values ? JSON.parse(input.dataset.values) : null;
    output.textContent = minus(choices ? choices[Number(input.value)] : plain(valueOf(input)));
    input.setAttribute("aria-valuetext", output.textContent);
  }

  const stored = (input) => (input.type === "checkbox" ? String(input.checked) : input.value);

  // Whether the control takes the value, which it then has.
  function store(input, value) {
    if (input.type === "checkbox") input.checked = value === "true";
    else input.value = value;
    follow(input);
    show(input);
    if (input.type !== "range") return stored(input) === value;
    return value.trim() !== "" && Math.abs(input.value - value) <= Number(input.step);
  }

  // What depends on a control that has changed: sliders that it ends, drawings that it takes away.
  function follow({ name, value }) {
    for (const slider of document.querySelectorAll(`[data-upto="${name}"]`)) {
      const last = slider.value === slider.max;
      slider.max = value;
      if (last) slider.value = value;
      show(slider);
    }
    for (const drawn of document.querySelectorAll(`[data-on~="${name}"]`)) drawn.value = "";
  }

  // --- the state: in the address, so that one can link to it, undone and redone -------------------

  let steps = null;

  function state() {
    const changed = inputs().filter((input) => stored(input) !== input.dataset.initial);
    return String(new URLSearchParams(changed.map((input) => [input.name, stored(input)])));
  }

  // All controls as that text has them; where it cannot be read, as they are at first, and says why.
  function restore(text) {
    const asked = new URLSearchParams(text);
    const put = (input) => store(input, asked.get(input.name) ?? input.dataset.initial) || !asked.has(input.name);
    const refused = inputs().filter((input) => !put(input)).map((input) => input.name);
    const unknown = [...asked.keys()].filter((name) => !document.getElementById(`control-${name}`));
    const [name] = [...unknown, ...refused];
    const fault = name !== undefined ? address.missing([name, asked.get(name)]) : explorable.fault?.(settings());
    address.refuse(fault, "here is the page as it opens");
    if (fault) for (const input of inputs()) store(input, input.dataset.initial);
  }

  function recall() {
    for (const input of inputs()) input.dataset.initial = stored(input);
    restore(address.asked());
    steps = undoing(state, (text) => {
      restore(text);
      changed();
    }, offer);
    for (const name of ["undo", "redo"]) document.getElementById(name).addEventListener("click", steps[name]);
  }

  function offer({ past, future }) {
    for (const [name, possible] of [["undo", past], ["redo", future]])
      document.getElementById(name).setAttribute("aria-disabled", String(!possible.length));
  }

  // Controls as the page's script wants them, as one step.
  function edit(values) {
    for (const [name, value] of Object.entries(values)) store(document.getElementById(`control-${name}`), String(value));
    address.say("");
    steps.commit();
    changed();
  }

  // Answers at once, and once per frame however fast the events come.
  function changed(event) {
    if (event) {
      follow(event.target);
      show(event.target);
      address.say("");
    }
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    const begun = performance.now();
    update();
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        timings.push(performance.now() - begun);
        busy = false;
        if (again) {
          again = false;
          changed();
        }
      }),
    );
  }

  // --- plots ---------------------------------------------------------------------------------

  function update() {
    result = explorable.compute(settings());
    for (const [name, { start, end }] of Object.entries(result.ranges || {}))
      models[name].setv({ start, end });
    for (const [name, data] of Object.entries(result.sources)) models[name].data = data;
    for (const [name, value] of Object.entries(result.readouts)) {
      const cell = document.getElementById(`readout-${name}`);
      cell.textContent = minus(typeof value === "number" ? formatted(value) : value);
      cell.dataset.value = value;
    }
    const status = document.getElementById("status");
    status.textContent = minus(result.said);
    status.classList.toggle("unstable", Boolean(result.unstable));
    for (const plot of document.querySelectorAll(".plot"))
      plot.setAttribute("aria-label", `${plot.dataset.label}. ${result.said}`);
    address.remember(state());
  }

  const minus = (text) => text.replace(/-(?=\d)/g, "−");

  function formatted(value) {
    if (!Number.isFinite(value)) return "beyond 10³⁰⁸";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) {
      const [digits, power] = value.toExponential(2).split("e");
      return `${digits} · 10${superscript(Number(power))}`;
    }
    return String(Number(value.toPrecision(4)));
  }

  const superscript = (n) => String(n).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

  // Positive and finite, so that a logarithmic axis can show it.
  const shown = (value) => (value > 1e-300 ? Math.min(value, 1e300) : value >= 0 ? 1e-300 : 1e300);

  // A range that holds all values, at least a decade of them, none below `floor`.
  function decades(values, floor = 1e-12) {
    const seen = values.filter((v) => v > 0).map((v) => Math.max(floor, shown(v)));
    const top = Math.max(...seen, floor * 10);
    const bottom = Math.min(...seen, top / 10);
    return { start: bottom / 1.5, end: top * 1.5 };
  }

  // The ranges of a plot that shows `reach` in each direction, with equal units on both axes.
  function square(name, reach) {
    const { inner_width, inner_height } = models[name];
    const stretch = inner_width && inner_height ? inner_width / inner_height : 1;
    const [x, y] = [reach * Math.max(stretch, 1), reach * Math.max(1 / stretch, 1)];
    return { [`${name}_x`]: { start: -x, end: x }, [`${name}_y`]: { start: -y, end: y } };
  }

  // --- colours -------------------------------------------------------------------------------

  const { dark, agents: agentColours, inkOn } = theme;

  function paint() {
    const css = getComputedStyle(root);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) =>
      css.getPropertyValue(name).trim(),
    );
    for (const figure of Object.values(models).filter((model) => model.type === "Figure")) {
      for (const axis of [...figure.below, ...figure.left])
        axis.setv({
          axis_label_text_color: soft, major_label_text_color: soft, axis_line_color: line,
          major_tick_line_color: line,
        });
      for (const grid of figure.center) if (grid.type === "Grid") grid.grid_line_color = line;
      for (const renderer of figure.renderers)
        if (renderer.glyph.tags.includes("ink")) renderer.glyph.setv({ line_color: soft });
      for (const legend of [...figure.center, ...figure.above].filter((part) => part.type === "Legend"))
        legend.setv({ label_text_color: ink });
    }
  }

  // --- exercises -----------------------------------------------------------------------------

  function verdict(form) {
    const { answer, tolerance } = JSON.parse(form.dataset.answer);
    const given = form.elements.answer.value.trim().replace(",", ".").replace("−", "-");
    if (!given) return null;
    return tolerance === null ? given === answer : Math.abs(Number(given) - answer) <= tolerance;
  }

  function check(event) {
    event.preventDefault();
    const form = event.target;
    const right = verdict(form);
    const said = form.querySelector(".verdict");
    said.className = `verdict ${right ? "right" : "wrong"}`;
    if (right === null) said.textContent = "Give an answer first.";
    else said.textContent = right ? `Right. ${form.dataset.why}` : `Not yet. ${form.dataset.hint}`;
  }

  // --- start ---------------------------------------------------------------------------------

  function start(given) {
    models = given;
    explorable.prepare?.();
    recall();
    for (const input of inputs()) {
      input.addEventListener("input", changed);
      input.addEventListener("change", steps.commit);
    }
    address.followed((asked) => {
      restore(asked);
      steps.commit();
      changed();
    });
    for (const drawn of document.querySelectorAll(".plot > *")) drawn.inert = true; // nothing there to operate
    for (const form of document.querySelectorAll("form.exercise")) form.addEventListener("submit", check);
    theme.start(() => {
      paint();
      update();
    });
    document.getElementById("reset").addEventListener("click", () => {
      restore("");
      steps.commit();
      changed();
    });
    addEventListener("resize", () => changed());
    paint();
    update();
    root.dataset.ready = "true";
  }

  return { start, edit, say: address.say, commit: () => steps.commit(), show, shown, decades, square, agentColours, inkOn, dark, timings, settings, changed,
    get result() { return result; }, get models() { return models; } };
})();
