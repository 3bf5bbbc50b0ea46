// What a page is set to is in its address, so that one can link to it; what cannot be read there is said.
const address = (() => {
  // Lists of whole numbers: [[0, 4], [1, 3]] is 0_4.1_3.
  const lists = {
    read: (text) => (text ? text.split(".").map((item) => item.split("_").map(Number)) : []),
    write: (items) => items.map((item) => item.join("_")).join("."),
  };

  // An address without = names a place on the page.
  const asked = () => (location.hash.includes("=") ? location.hash.slice(1) : "");

  function remember(text) {
    try {
      history.replaceState(null, "", `#${text}`);
    } catch {
      // a browser that keeps local files from changing their address
    }
  }

  // Calls `restore` with what is asked, whenever the reader changes the address.
  const followed = (restore) => addEventListener("hashchange", () => asked() && restore(asked()));

  const brief = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

  const missing = ([name, value]) => `there is no ${brief(name || "name")} ${brief(value || "without a value")}`;

  const refuse = (fault, shown) => say(fault ? `The address cannot be read, ${fault}: ${shown}.` : "");

  const lacking = "MathMLElement" in window ? "" : "Your browser lays out no formulas: they are written in a row, without fractions and heights.";

  function say(sentence) {
    const notice = document.getElementById("notice");
    notice.textContent = sentence || lacking;
    notice.hidden = !notice.textContent;
    notice.classList.remove("late");
  }

  return { lists, asked, remember, followed, missing, refuse, say };
})();
