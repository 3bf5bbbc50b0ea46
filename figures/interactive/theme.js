// Light or dark: as the reader's system has it, or as the reader chose.
const theme = (() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let seen = () => {};

  function kept() {
    try {
      return localStorage.getItem("ntkdyn-theme");
    } catch {
      return null;
    }
  }

  const wanted = () => kept() || (system.matches ? "dark" : "light");

  const dark = () => root.dataset.theme === "dark";

  function set(name) {
    root.dataset.theme = name;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark()));
    seen();
  }

  function toggle() {
    const name = dark() ? "light" : "dark";
    try {
      localStorage.setItem("ntkdyn-theme", name);
    } catch {
      // a browser that keeps nothing of local files
    }
    set(name);
  }

  // Calls `changed` whenever colours change from now on. Paper is light.
  function start(changed) {
    seen = changed;
    addEventListener("beforeprint", () => set("light"));
    addEventListener("afterprint", () => set(wanted()));
    document.getElementById("theme").addEventListener("click", toggle);
    system.addEventListener("change", () => set(wanted()));
  }

  function agents(count) {
    const named = JSON.parse(root.dataset.agents);
    if (dark()) named[named.length - 1] = "#e8e8e8";
    return Array.from({ length: count }, (_, i) =>
      i < named.length ? named[i] : `hsl(${(i * 137.5) % 360} 45% ${dark() ? 68 : 42}%)`,
    );
  }

  // Black or white, whichever reads better on a colour given as #rrggbb or by hue.
  function inkOn(colour) {
    if (!colour.startsWith("#")) return dark() ? "#111111" : "#ffffff";
    const [r, g, b] = [1, 3, 5].map((k) => (parseInt(colour.slice(k, k + 2), 16) / 255) ** 2.2);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#111111" : "#ffffff";
  }

  return { set, start, wanted, dark, agents, inkOn };
})();
