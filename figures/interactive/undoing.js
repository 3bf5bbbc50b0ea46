// What was set before, as the address has it: Ctrl-Z goes back step by step, Ctrl-Shift-Z or Ctrl-Y forward again.
const undoing = (state, restore, told = () => {}) => {
  const past = [];
  const future = [];
  let present = state();

  // What was changed becomes one step.
  function commit() {
    if (state() !== present) {
      past.push(present);
      future.length = 0;
    }
    present = state();
    told({ past, future });
  }

  function travel(from, to) {
    commit();
    if (!from.length) return;
    to.push(present);
    present = from.pop();
    restore(present);
    told({ past, future });
  }

  const undo = () => travel(past, future);
  const redo = () => travel(future, past);

  // In fields to fill in, the keys are the browser's own.
  function keys(event) {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !["y", "z"].includes(key)) return;
    if (event.target.closest?.("form")) return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  }

  addEventListener("keydown", keys);
  told({ past, future });
  return { commit, undo, redo };
};
