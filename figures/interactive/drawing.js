// Pictures in SVG that are changed, not made anew, so that what is held or in focus stays.
const drawing = (() => {
  const NAMES = "http://www.w3.org/2000/svg";

  function set(element, attributes) {
    for (const [name, value] of Object.entries(attributes))
      if (name === "text") element.textContent = value;
      else element.setAttribute(name, typeof value === "number" ? String(+value.toFixed(3)) : value);
    return element;
  }

  // The group of that name within a picture, made when first asked for.
  function group(within, name) {
    const found = [...within.children].find((child) => child.dataset.name === name);
    return found || set(within.appendChild(document.createElementNS(NAMES, "g")), { "data-name": name });
  }

  // As many elements of that kind in a group as there are items, each with the attributes it is given.
  function each(parent, tag, items, attributes) {
    while (parent.children.length > items.length) parent.lastChild.remove();
    while (parent.children.length < items.length) parent.appendChild(document.createElementNS(NAMES, tag));
    items.forEach((item, k) => set(parent.children[k], attributes(item, k)));
    return [...parent.children];
  }

  // Where an event is, in the picture's own units.
  function at(svg, { clientX, clientY }) {
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [x, y];
  }

  // Calls down(place, target), then move(place, event) while held and up(moved) at the end; a held pointer that
  // hardly moves has not moved.
  function hold(svg, { down, move, up }) {
    let from = null;
    let moved = false;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button || !down(at(svg, event), event.target)) return;
      event.preventDefault();
      event.target.closest("[tabindex]")?.focus();
      svg.setPointerCapture(event.pointerId);
      [from, moved] = [[event.clientX, event.clientY], false];
    });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      moved ||= Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 4;
      if (moved) move(at(svg, event), event);
    });
    for (const end of ["pointerup", "pointercancel"])
      svg.addEventListener(end, () => {
        if (from) up(moved);
        from = null;
      });
  }

  const path = (x, y) => x.map((value, k) => `${k ? "L" : "M"}${value.toFixed(2)} ${y[k].toFixed(2)}`).join("");

  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  return { set, group, each, at, hold, path, still };
})();
